"""The ledger: state and witness records made durable as one, in the one order from which every crash can be mended.

What lives here: sealing a batch of commits, the order of writes, retry, checkpoints, retention.
What never does: SQL (``sqlite.py``), file handling (``witness/files.py``), sending anything.

The order, for each batch:

1. The store takes the state changes, the new head and the sealed lines (its outbox) in one transaction.
2. The lines are appended to the day's files and synced. Only now is the batch acknowledged.

A crash before 1 ends leaves nothing. A crash after it leaves a batch that nobody was told of, whole: the next start finds its
lines in the outbox and completes the files. The files can't be ahead of the store, so if they are, one of the two was replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from gatekeeperd.core.actions import Change, Commit, Json, Record, Stream
from gatekeeperd.errors import GuardianError, WitnessError
from gatekeeperd.security.keys import format_public_key
from gatekeeperd.store.sqlite import Store
from gatekeeperd.witness.chain import (
    ANCHOR_DOMAIN,
    HEAD_DOMAIN,
    NO_TRACE,
    RESUMED,
    SEAL,
    Author,
    Head,
    read_statement,
    timestamp,
    utc,
)
from gatekeeperd.witness.files import ANCHOR_FILE, HEAD_FILE, KEY_FILE, Tail, Torn, WitnessFiles

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Batch:
    """Sealed records on their way: in the store perhaps, in the files perhaps not."""

    head: Head
    tails: dict[Stream, Tail]
    unsigned: int
    unsigned_since: int
    checkpointed: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How long days are kept, and for how many nanoseconds and records a record may wait for its checkpoint."""

    retention_days: int
    checkpoint_after_ns: int
    checkpoint_records: int


class Ledger:
    """The open ledger of one daemon.

    Every method blocks (a sync costs a fraction of a millisecond) and belongs in one worker thread. StoreError and
    WitnessError mean that nothing was acknowledged and that the same call may be repeated.
    """

    def __init__(self, store: Store, files: WitnessFiles, author: Author, clock: Callable[[], int], limits: Limits) -> None:
        """Take over an open store and its files; ``open`` is the way to make one."""
        self._store = store
        self._files = files
        self._author = author
        self._clock = clock
        self._limits = limits
        self._head = store.opened.head
        self._tails = dict(store.opened.tails)
        self._unsigned = 0
        self._unsigned_since = 0
        self._head_is_stale = False
        self._retained_for = ""
        self._pending: _Batch | None = None
        self._unacknowledged: list[Commit] = []

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        node: str,
        signing_key: SigningKey,
        clock: Callable[[], int],
        retention_days: int = 90,
        checkpoint_interval_s: float = 5,
        checkpoint_records: int = 1000,
    ) -> Ledger:
        """Open the store and log in ``directory`` (which exists), mend what a crash left, and record the start.

        ``clock`` gives UTC nanoseconds since 1970. Files of days older than ``retention_days`` are removed, whole days, oldest
        first. No record stays without a signed checkpoint for ``checkpoint_interval_s`` seconds, if ``checkpoint_if_due`` is
        called at least once a second, nor for more than ``checkpoint_records`` records.

        Raises StoreError when another daemon has it open, or the store is damaged or newer than this release; WitnessError
        when files and store do not belong together. Both say the mend.
        """
        store = Store(directory)
        files = WitnessFiles(directory)
        try:
            files.prepare()
            torn = files.mend(store.opened.tails)
            files.replace(KEY_FILE, f"{format_public_key(bytes(signing_key.verify_key))}\n".encode())
            # Due after half the interval, so that a stall of the other half does not make a checkpoint late.
            limits = Limits(retention_days, int(checkpoint_interval_s * _SECOND / 2), checkpoint_records)
            ledger = cls(store, files, Author(node, store.opened.epoch, signing_key), clock, limits)
            resumed: dict[str, Json] = {"clean": store.opened.sealed, "previous_epoch": store.opened.previous_epoch}
            ledger._append((), [Record(RESUMED, NO_TRACE, resumed), *map(_told, torn)], sign=True)
            ledger.checkpoint_if_due(clock())
        except BaseException:
            files.close()
            with suppress(GuardianError):  # the error that brought us here is the one to tell
                store.close()
            raise
        return ledger

    @property
    def epoch(self) -> int:
        """Count of starts of this store, this one included. Durable before ``open`` returned."""
        return self._author.epoch

    @property
    def head(self) -> Head:
        """The last record that is durable in the files."""
        return self._head

    def load(self) -> dict[str, dict[str, bytes]]:
        """Return all state: kind, then key, to value."""
        return self._store.load()

    def commit(self, commits: Sequence[Commit]) -> None:
        """Make all ``commits`` durable, state and records, in order, as one; return when they are.

        Raises StoreError or WitnessError when they could not be made so. Commit the same ones again (alone or among others):
        what had been kept already is not done twice. Raises CanonicalError for a record that can't be written: nothing of the
        batch was done, and it never will be with that record in it.
        """
        self._settle()
        kept = list(self._unacknowledged)
        fresh = []
        for commit in commits:
            if commit in kept:
                kept.remove(commit)
            else:
                fresh.append(commit)
        if fresh:
            self._append(fresh)
        self._unacknowledged = kept

    def checkpoint_if_due(self, now_ns: int) -> None:
        """Sign what waits for it, renew the signed head file, and remove what is older than the retention, where due.

        ``now_ns`` is UTC nanoseconds since 1970. Call it once a second.
        """
        self._settle()
        if self._is_due(now_ns):
            self._append((), sign=True)
        if self._head_is_stale:
            self._renew_head(now_ns)
        self._retain(now_ns)

    def close(self) -> None:
        """Seal the log and close everything. On an error everything is closed too, but the log is not sealed."""
        try:
            self._settle()
            self._append((), [Record(SEAL, NO_TRACE, {})], sign=True, sealed=True)
            self._renew_head(self._clock())
        finally:
            self._files.close()
            self._store.close()

    def _is_due(self, now_ns: int) -> bool:
        # A clock that went back makes it due as well: nothing else would, until it has caught up.
        return bool(self._unsigned) and not 0 <= now_ns - self._unsigned_since < self._limits.checkpoint_after_ns

    def _append(
        self, commits: Sequence[Commit], records: Iterable[Record] = (), *, sign: bool = False, sealed: bool = False
    ) -> None:
        changes: list[Change] = []
        told = list(records)
        for commit in commits:
            changes += commit.changes
            told += commit.records
        batch = self._seal(told, sign=sign)
        self._store.write(changes, batch.head, batch.tails, sealed=sealed)
        self._pending = batch
        try:
            self._settle()
        except WitnessError:
            self._unacknowledged += commits
            raise

    def _seal(self, records: Sequence[Record], *, sign: bool) -> _Batch:
        """Chain ``records`` to the head, with checkpoints where they are due, and place them in the day's files."""
        now = self._clock()
        moment = utc(now)
        time = timestamp(moment)
        day = max(f"{moment:%Y%m%d}", *(tail.day for tail in self._tails.values()), "")
        head, unsigned, since, checkpointed = self._head, self._unsigned, self._unsigned_since, False
        sign = sign or self._is_due(now)
        lines: dict[Stream, list[bytes]] = {}
        author = self._author
        for record in records:
            head, line = author.seal(head, record, time)
            lines.setdefault(record.stream, []).append(line)
            if not unsigned:
                since = now
            unsigned += 1
            if unsigned >= self._limits.checkpoint_records - 1:
                head, unsigned, checkpointed = self._checkpoint(head, lines, time), 0, True
        if sign and unsigned:
            head, unsigned, checkpointed = self._checkpoint(head, lines, time), 0, True
        tails = {stream: Tail(day, self._end(stream, day), b"".join(parts)) for stream, parts in lines.items()}
        return _Batch(head, tails, unsigned, since, checkpointed)

    def _checkpoint(self, head: Head, lines: dict[Stream, list[bytes]], time: str) -> Head:
        head, line = self._author.seal(head, self._author.checkpoint(head), time)
        lines.setdefault(Stream.RAS, []).append(line)
        return head

    def _end(self, stream: Stream, day: str) -> int:
        tail = self._tails.get(stream)
        return tail.end if tail and tail.day == day else 0

    def _settle(self) -> None:
        """Finish the batch that the store has and the files may not have."""
        batch = self._pending
        if batch is None:
            return
        self._files.append(batch.tails)
        self._tails |= batch.tails
        self._head = batch.head
        self._unsigned = batch.unsigned
        self._unsigned_since = batch.unsigned_since
        self._head_is_stale |= batch.checkpointed
        self._pending = None

    def _renew_head(self, now_ns: int) -> None:
        self._files.replace(HEAD_FILE, self._author.statement(HEAD_DOMAIN, self._head, timestamp(utc(now_ns))))
        self._head_is_stale = False

    def _retain(self, now_ns: int) -> None:
        first = f"{utc(now_ns) - timedelta(days=self._limits.retention_days):%Y%m%d}"
        if first <= self._retained_for:
            return
        removed, kept = self._files.edge(first)
        if removed is None:
            self._retained_for = first
            return
        start = kept or self._head
        if start not in (removed, self._anchor()):
            # To sign a new start here would make somebody else's removal look like ours.
            refused: dict[str, Json] = {"first_day": first, "last_removed": removed.index, "first_kept": start.index + 1}
            self._append((), [Record("retention_refused", NO_TRACE, refused)])
            self._retained_for = first
            return
        self._append((), [Record("retention", NO_TRACE, {"first_day": first, "first_kept": start.index + 1})], sign=True)
        self._files.replace(ANCHOR_FILE, self._author.statement(ANCHOR_DOMAIN, start, timestamp(utc(now_ns)), day=first))
        self._files.remove_before(first)
        self._retained_for = first

    def _anchor(self) -> Head | None:
        """Where the kept chain starts by our own word: a removal may have been cut short after that was signed."""
        octets = self._files.read(ANCHOR_FILE)
        if octets is None:
            return None
        try:
            return read_statement(ANCHOR_DOMAIN, octets, self._author.key.verify_key)[0]
        except WitnessError:
            return None  # the verifier tells of it; here it justifies nothing


def _told(torn: Torn) -> Record:
    return Record("torn", NO_TRACE, {"file": torn.file, "offset": torn.offset, "octets": torn.octets, "kept_as": torn.kept_as})
