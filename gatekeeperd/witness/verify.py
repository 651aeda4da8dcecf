"""The offline verifier: reads a log once, front to back, and names everything in it that its writer did not write so.

What lives here: judgement, pure over lines and small files that others read. One line per stream is held, never the log.
What never does: opening files (``files.py``), printing (``cli/witness.py``).

What one directory can't prove: that its end was not cut off, when ``head.json`` was put back to an older one as well. Whoever
holds a later head (index and hash) from elsewhere passes it as ``witnessed`` and can. Nor does the chain say in which of a day's
three files a record stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from nacl.signing import VerifyKey

from gatekeeperd.errors import OtherKeyError, WitnessError
from gatekeeperd.security.keys import key_id
from gatekeeperd.witness.chain import (
    ANCHOR_DOMAIN,
    CHECKPOINT,
    GENESIS,
    HEAD_DOMAIN,
    RESUMED,
    SEAL,
    Head,
    check_checkpoint,
    read_line,
    read_statement,
)
from gatekeeperd.witness.files import ANCHOR_FILE, HEAD_FILE, DayFile, Line
from gatekeeperd.witness.findings import MAX_FINDINGS, Finding, Kind, Report

#: A signed checkpoint follows at least this often: seconds (by record time) and records.
CHECKPOINT_SECONDS: Final = 5.0
CHECKPOINT_RECORDS: Final = 1000

#: Hashes of this many records are remembered, to tell a second copy from a forgery with a used index.
_REMEMBERED: Final = 4096

#: Records out of their place that are held until their place comes.
_MAX_DISPLACED: Final = 1024

#: Lines between two calls of the progress function.
_PROGRESS_LINES: Final = 2048


@dataclass(slots=True)
class _Entry:
    """A line that was looked at: ``record`` is None where it is broken, and ``fault`` says why."""

    file: DayFile
    number: int
    record: dict[str, Any] | None
    index: int
    fault: str
    torn: bool


class _Cursor:
    """The lines of one stream: ``entry`` comes next and ``following`` after it; None where the stream ends."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.octets = 0
        self.entry: _Entry | None = None
        self.following = self._read()
        self.advance()

    def advance(self) -> None:
        self.entry = self.following
        self.following = self._read()

    def is_displaced(self, expected: int) -> bool:
        """Whether the next line stands before one that precedes it and is still to come."""
        entry, following = self.entry, self.following
        if entry is None or entry.record is None or following is None or following.record is None:
            return False
        return expected <= following.index < entry.index

    def _read(self) -> _Entry | None:
        line = next(self._lines, None)
        if line is None:
            return None
        file, number, octets = line
        self.octets += len(octets)
        try:
            record = read_line(octets)
        except WitnessError as error:
            return _Entry(file, number, None, 0, str(error), torn=file.newest and not octets.endswith(b"\n"))
        return _Entry(file, number, record, record["index"], "", torn=False)


def verify(
    streams: Iterable[Iterator[Line]],
    *,
    key: VerifyKey,
    head: bytes | None,
    anchor: bytes | None,
    witnessed: Head | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Return what is to be said of a log.

    ``streams`` yield the lines of each stream, oldest first; ``head`` and ``anchor`` are the contents of ``head.json`` and
    ``retained.json`` (None: there is none); ``key`` is the node's public key, from where the reader trusts it. ``witnessed`` is a
    head that somebody independent holds. ``progress`` is told the octets read so far, now and then.
    """
    judge = _Judge(key, checkpoint_seconds)
    first_day = judge.start(anchor, head, witnessed)
    judge.read([_Cursor(line for line in lines if line[0].day >= first_day) for lines in streams], progress)
    return judge.finish()


class _Judge:
    """The state of one reading."""

    def __init__(self, key: VerifyKey, checkpoint_seconds: float) -> None:
        self._key = key
        self._seconds = checkpoint_seconds
        self._report = Report()
        self._cursors: list[_Cursor] = []
        # The chain: what comes next, the hash it has to name (None: not known), and the record before it.
        self._expected = 1
        self._link: str | None = GENESIS.hash
        self._starts_unknown = False
        self._last: _Entry | None = None
        self._rival: _Entry | None = None
        self._recent: dict[int, str] = {}
        self._displaced: dict[int, _Entry] = {}
        self._holes: list[tuple[int, int, _Entry]] = []
        # Heads that others signed or hold, by index: the hash and who says so.
        self._claims: dict[int, list[tuple[str, str]]] = {}
        self._head: Head | None = None
        self._head_time = ""
        self._has_head_file = False
        # Held back while one other key may have signed everything; None once that is not so.
        self._strange: list[Finding] | None = []
        self._stranger = ""
        self._strangers = 0
        # What runs along.
        self._epoch = 0
        self._day = ""
        self._time = ""
        self._clock_back: tuple[_Entry, int] | None = None
        self._unsigned = 0
        self._unsigned_since = ""
        self._signed_time = ""
        self._events = ("", "")

    def start(self, anchor: bytes | None, head: bytes | None, witnessed: Head | None) -> str:
        """Take in the small files; return the first day (YYYYMMDD) that belongs to the kept chain."""
        first_day = ""
        if anchor is not None:
            try:
                start, body = read_statement(ANCHOR_DOMAIN, anchor, self._key)
            except WitnessError as error:
                self._tell_signature(error, Finding(Kind.BAD_SIGNATURE, str(error), file=ANCHOR_FILE))
                self._starts_unknown = isinstance(error, OtherKeyError)
            else:
                self._release()
                self._expected, self._link, first_day = start.index + 1, start.hash, str(body.get("day", ""))
        if head is not None:
            self._has_head_file = True
            try:
                self._head, body = read_statement(HEAD_DOMAIN, head, self._key)
            except WitnessError as error:
                self._tell_signature(error, Finding(Kind.BAD_SIGNATURE, str(error), file=HEAD_FILE))
            else:
                self._release()
                self._head_time = str(body.get("time", ""))
                self._claims.setdefault(self._head.index, []).append((self._head.hash, HEAD_FILE))
        if witnessed is not None:
            self._claims.setdefault(witnessed.index, []).append((witnessed.hash, "the head held elsewhere"))
        return first_day

    def read(self, cursors: list[_Cursor], progress: Callable[[int], None] | None) -> None:
        """Take all lines in the order of the chain."""
        self._cursors = cursors
        if self._starts_unknown:  # the log fails for its anchor's key anyway; that must not look like missing records
            entries = [cursor.entry for cursor in cursors if cursor.entry is not None and cursor.entry.record is not None]
            self._expected, self._link = min((entry.index for entry in entries), default=1), None
        self._report.first = self._expected
        lines = 0
        while (cursor := self._choose()) is not None and (entry := cursor.entry) is not None:
            displaced = cursor.is_displaced(self._expected) and len(self._displaced) < _MAX_DISPLACED
            cursor.advance()
            if entry.record is None:
                self._broken(entry, cursor)
            elif entry.index == self._expected:
                self._in_order(entry, entry.record)
            elif entry.index < self._expected:
                self._late(entry, entry.record)
            elif displaced:
                self._displaced[entry.index] = entry
            else:
                self._early(entry, entry.record)
            lines += 1
            if progress and lines % _PROGRESS_LINES == 0:
                progress(sum(cursor.octets for cursor in cursors))

    def finish(self) -> Report:
        """Say what only the end of the log shows."""
        self._place_displaced()
        for entry in self._displaced.values():
            self._tell(Kind.INSERTED, "a record whose index fits nowhere", entry)
        if self._rival is not None:
            self._tell(Kind.INSERTED, "a second record with this index", self._rival)
        for start, end, entry in self._holes:
            self._tell_hole(start, end, entry)
        self._judge_claims()
        self._judge_end()
        if self._clock_back is not None:
            entry, times = self._clock_back
            self._tell(Kind.CLOCK_BACK, f"the node's clock went back here, {times} times in all", entry)
        self._report.head = Head(self._expected - 1, self._link or "") if self._last else None
        return self._report

    # --- order -------------------------------------------------------------------------------------------------------

    def _choose(self) -> _Cursor | None:
        """Return the stream whose line comes next: the lowest index, and a broken line where nothing else fits."""
        best: _Cursor | None = None
        lowest = 0
        broken: _Cursor | None = None
        for cursor in self._cursors:
            entry = cursor.entry
            if entry is None:
                continue
            if entry.record is None:
                broken = broken or cursor
            elif best is None or entry.index < lowest:
                best, lowest = cursor, entry.index
        if best is not None and lowest <= self._expected:
            return best
        # Nothing has the expected index: before a hole is told, look whether a line out of its place hides it.
        displaced = (cursor for cursor in self._cursors if cursor.is_displaced(self._expected))
        return next(displaced, None) or broken or best

    def _broken(self, entry: _Entry, cursor: _Cursor) -> None:
        following = cursor.entry
        if entry.torn and (self._head is None or self._expected > self._head.index):
            # The writer never acknowledged it, and completes it at its next start.
            self._tell(Kind.TORN, "a crash (or a writer at work) left the last line unfinished", entry)
            return
        if following is not None and following.record is not None and following.index == self._expected:
            self._tell(Kind.INSERTED, f"a line that is no record: {entry.fault}", entry)
            return
        entry.index = self._expected
        self._tell(Kind.ALTERED, entry.fault, entry)
        self._link = self._last = None
        self._expected += 1

    def _in_order(self, entry: _Entry, record: dict[str, Any]) -> None:
        if self._link is not None and record["prev_hash"] != self._link and not self._relink(entry, record):
            return
        if self._rival is not None:
            self._tell(Kind.INSERTED, "a second record with this index, which the next record does not name", self._rival)
            self._rival = None
        if (copy := self._displaced.pop(entry.index, None)) is not None:
            self._tell_again(copy, record["hash"])
        self._report.records += 1
        self._link = record["hash"]
        self._last = entry
        self._expected = entry.index + 1
        self._recent[entry.index] = record["hash"]
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        self._judge_record(entry, record)

    def _relink(self, entry: _Entry, record: dict[str, Any]) -> bool:
        """Say which record breaks the link before ``entry``; return whether ``entry`` itself belongs to the chain."""
        rival = self._rival
        if rival is not None and rival.record is not None and rival.record["hash"] == record["prev_hash"]:
            self._rival, self._last = self._last, rival
            return True
        for cursor in self._cursors:
            other = cursor.entry
            if other and other.record and other.index == entry.index and other.record["prev_hash"] == self._link:
                self._tell(Kind.INSERTED, "a second record with this index, which does not follow from the one before", entry)
                return False
        if self._last is None:
            self._tell(Kind.ALTERED, "it does not follow from where the chain starts", entry)
        else:
            self._tell(Kind.ALTERED, "its hash was made anew: the next record names another", self._last)
        return True

    def _late(self, entry: _Entry, record: dict[str, Any]) -> None:
        if self._last is not None and entry.index == self._last.index and record["hash"] != self._link and self._rival is None:
            self._rival = entry  # the next record names one of the two
            return
        for position, (start, end, after) in enumerate(self._holes):
            if start <= entry.index <= end:
                self._tell(Kind.REORDERED, "it stands after records that follow it", entry)
                parts = [(start, entry.index - 1, after), (entry.index + 1, end, after)]
                self._holes[position : position + 1] = [part for part in parts if part[0] <= part[1]]
                return
        self._tell_again(entry, self._recent.get(entry.index))

    def _early(self, entry: _Entry, record: dict[str, Any]) -> None:
        self._place_displaced()
        if entry.index > self._expected:
            self._holes.append((self._expected, entry.index - 1, entry))
            self._link = self._last = None
            self._expected = entry.index
        self._in_order(entry, record)

    def _place_displaced(self) -> None:
        while (entry := self._displaced.pop(self._expected, None)) is not None and entry.record is not None:
            self._tell(Kind.REORDERED, "it stands before records that precede it", entry)
            self._in_order(entry, entry.record)

    # --- content -----------------------------------------------------------------------------------------------------

    def _judge_record(self, entry: _Entry, record: Mapping[str, Any]) -> None:
        time, event, epoch = record["time"], record["event"], record["epoch"]
        if epoch < self._epoch:
            self._tell(Kind.EPOCH_BACK, f"epoch {epoch} after epoch {self._epoch}", entry)
        self._epoch = epoch
        if time < self._time:
            first, times = self._clock_back or (entry, 0)
            self._clock_back = (first, times + 1)
        self._time = time
        self._judge_day(entry, time)
        if self._claims and entry.index in self._claims:
            for digest, source in self._claims.pop(entry.index):
                if digest != record["hash"]:
                    self._tell(Kind.HEAD_MISMATCH, f"{source} names another record with this index", entry)
        if event == CHECKPOINT:
            self._judge_checkpoint(entry, record)
        else:
            if not self._unsigned or event == RESUMED:  # what a crash left unsigned waited while nothing ran
                self._unsigned, self._unsigned_since = 0, time
            self._unsigned += 1
        self._events = (self._events[1], event)

    def _judge_day(self, entry: _Entry, time: str) -> None:
        day = time[:4] + time[5:7] + time[8:10]
        if not self._day and entry.index > 1:
            self._day = entry.file.day  # the clock may have gone back before the kept chain starts
        self._day = max(self._day, day)
        if entry.file.day != self._day:
            self._tell(Kind.MISPLACED, f"a record of {day} in the file of another day", entry)

    def _judge_checkpoint(self, entry: _Entry, record: Mapping[str, Any]) -> None:
        self._report.checkpoints += 1
        try:
            check_checkpoint(record, self._key)
        except WitnessError as error:
            detail = f"{error}; good signatures end at record {self._report.signed}"
            self._tell_signature(error, Finding(Kind.BAD_SIGNATURE, detail, entry.index, entry.file.name, entry.number))
        else:
            self._release()
            self._report.signed = entry.index - 1
        self._signed_time = record["time"]
        self._judge_wait(entry)
        self._unsigned = 0

    def _judge_wait(self, entry: _Entry) -> None:
        waited = _seconds_between(self._unsigned_since, self._time) if self._unsigned else 0.0
        if self._unsigned >= CHECKPOINT_RECORDS or waited > self._seconds:
            self._tell(
                Kind.LATE_CHECKPOINT,
                f"{self._unsigned} records waited {waited:.1f} s for a signature, up to here",
                entry,
            )

    def _judge_claims(self) -> None:
        for index, claims in sorted(self._claims.items()):
            if index >= self._expected:
                for _, source in claims:
                    self._tell(
                        Kind.CUT_OFF,
                        f"the log ends at record {self._expected - 1}, but {source} is record {index}",
                        index=self._expected,
                    )
            else:
                self._tell(Kind.UNCHECKED_HEAD, f"record {index} is not there to be compared with {claims[0][1]}", index=index)

    def _judge_end(self) -> None:
        report = self._report
        if not self._has_head_file and (report.checkpoints or not report.records):
            what = "the log has signed checkpoints" if report.checkpoints else "files of a log are there, empty,"
            self._tell(Kind.HEAD_MISSING, f"{what} but no signed head", file=HEAD_FILE)
        signed = max(report.signed, self._head.index if self._head else 0)
        if (
            self._head
            and self._head.index < report.signed
            and self._seconds < _seconds_between(self._head_time, self._signed_time)
        ):
            self._tell(Kind.STALE_HEAD, f"it signs record {self._head.index}, the log {report.signed}", file=HEAD_FILE)
        if self._events != (SEAL, CHECKPOINT):
            self._tell(Kind.UNSEALED, "the log was not closed in order: its daemon runs, or it crashed")
        if self._strange:
            wanted = key_id(bytes(self._key)).hex()
            self._tell(
                Kind.OTHER_KEY,
                f"nothing here is signed by the key you gave ({wanted}), all by {self._stranger!a:.40}: "
                "is it node.pub (not service.pub)?",
            )
        elif self._last and self._last.index > signed:
            self._judge_wait(self._last)
            self._tell(
                Kind.UNSIGNED_TAIL, f"no signature covers records {signed + 1} to {self._last.index} yet", index=signed + 1
            )
        report.signed = signed

    # --- telling -----------------------------------------------------------------------------------------------------

    def _tell_hole(self, start: int, end: int, entry: _Entry) -> None:
        what = f"record {start} is missing" if start == end else f"records {start} to {end} are missing"
        if self._head is None or start > self._head.index:
            what += "; no head signs them yet: a crash between two files leaves this too, and the daemon's next start mends that"
        self._report.add(Finding(Kind.REMOVED, f"{what} before this line", start, entry.file.name, entry.number))

    def _tell_signature(self, error: WitnessError, finding: Finding) -> None:
        """Tell of a bad signature; later, where so far every signature names the same other key."""
        if self._strange is None or not isinstance(error, OtherKeyError) or error.key_id != (self._stranger or error.key_id):
            self._release()
            self._report.add(finding)
            return
        self._stranger = error.key_id
        self._strangers += 1
        if len(self._strange) < MAX_FINDINGS:
            self._strange.append(finding)

    def _release(self) -> None:
        """Not everything is signed by one other key: tell what was held back for that."""
        if self._strange is not None:
            for finding in self._strange:
                self._report.add(finding)
            self._report.unlisted += self._strangers - len(self._strange)
            self._strange = None

    def _tell_again(self, entry: _Entry, known: str | None) -> None:
        if known is None or entry.record is None or entry.record["hash"] == known:
            self._tell(Kind.DUPLICATED, "a record with this index stands elsewhere", entry)
        else:
            self._tell(Kind.INSERTED, "another record with this index belongs to the chain", entry)

    def _tell(
        self, kind: Kind, detail: str, entry: _Entry | None = None, *, index: int | None = None, file: str | None = None
    ) -> None:
        if entry is None:
            self._report.add(Finding(kind, detail, index, file))
        else:
            self._report.add(Finding(kind, detail, entry.index or self._expected, entry.file.name, entry.number))


def _seconds_between(earlier: str, later: str) -> float:
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except ValueError:
        return float("inf")  # a time that is none is as late as can be
