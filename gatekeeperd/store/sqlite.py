"""One SQLite file that holds what must outlive the process.

What lives here: the schema and its version, one transaction per batch, the lock that keeps a second daemon out.
What never does: files of the witness log, hashes, meaning: kinds, keys and values are the core's.

Every statement here lets go of the interpreter lock once, and a busy event loop may keep it for milliseconds. So a batch is
few statements with many rows each, never a statement per row.

Keys are random (call and endpoint identifiers), so an index on them would dirty a page of its own for each row. The one process
that may open the file keeps the index in memory instead, and rows are appended: a fifth of the processor time, measured.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from gatekeeperd.core.actions import Change, Stream
from gatekeeperd.errors import StoreError
from gatekeeperd.witness.chain import GENESIS, Head
from gatekeeperd.witness.files import Tail

STORE_FILE: Final = "state.sqlite3"
LOCK_FILE: Final = "state.lock"

#: Schema steps: the first creates, each later one takes version n to n + 1. ``PRAGMA user_version`` counts those done.
MIGRATIONS: Final = (
    """
    CREATE TABLE state (place INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL);
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, sealed INTEGER NOT NULL,
        head_index INTEGER NOT NULL, head_hash TEXT NOT NULL);
    CREATE TABLE outbox (stream TEXT PRIMARY KEY, day TEXT NOT NULL, at INTEGER NOT NULL, lines BLOB NOT NULL) WITHOUT ROWID;
    """,
)

#: Rows per statement. Few sizes, so that SQLite's compiled statements stay in the connection's cache.
_CHUNKS: Final = (128, 64, 32, 16, 8, 4, 2, 1)

#: Pages of 4096 octets in the write-ahead log before SQLite copies them back: rarer copies write hot pages once.
_WAL_PAGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Opened:
    """What the store held when it was opened. ``sealed``: the run before closed it in order."""

    previous_epoch: int
    epoch: int
    sealed: bool
    head: Head
    tails: Mapping[Stream, Tail]


class Store:
    """The open store of one daemon. One thread at a time. Every method raises StoreError where SQLite or the disk refuses."""

    def __init__(self, directory: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Lock, open, check and migrate the store in ``directory``; the epoch grows by one, durably, before this returns."""
        self._path = directory / STORE_FILE
        self._lock = _take_lock(directory / LOCK_FILE)
        try:
            # 0600 before SQLite writes to it; its write-ahead log inherits the mode.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            # Session keys are in it, whatever mode somebody gave it since.
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=0, check_same_thread=False)
            try:
                with self._translated():
                    self._prepare(migrations)
                    self.opened = self._begin_epoch()
                    self._places, self._next_place = self._index()
            except BaseException:
                self._connection.close()
                raise
        except OSError as error:
            os.close(self._lock)
            raise StoreError(f"{self._path}: {error.strerror}") from error
        except BaseException:
            os.close(self._lock)
            raise

    def load(self) -> dict[str, dict[str, bytes]]:
        """Return all state: kind, then key, to value."""
        state: dict[str, dict[str, bytes]] = {}
        with self._translated():
            for kind, key, value in self._connection.execute("SELECT kind, key, value FROM state"):
                state.setdefault(kind, {})[key] = value
        return state

    def write(self, changes: Sequence[Change], head: Head, tails: Mapping[Stream, Tail], *, sealed: bool = False) -> None:
        """Make ``changes`` (the last one of a kind and key counts), ``head`` and ``tails`` durable as one, or none of them."""
        latest = {(change.kind, change.key): change.value for change in changes}
        rows: list[tuple[int, str, str, bytes]] = []
        gone: list[tuple[int]] = []
        next_place = self._next_place
        for name, value in latest.items():
            place = self._places.get(name)
            if value is not None:
                if place is None:
                    place, next_place = next_place, next_place + 1
                rows.append((place, *name, value))
            elif place is not None:
                gone.append((place,))
        outbox = [(stream.value, tail.day, tail.offset, tail.lines) for stream, tail in tails.items()]
        with self._translated(), self._transaction() as connection:
            _in_chunks(connection, _put("state", 4), rows)
            _in_chunks(connection, _remove, gone)
            _in_chunks(connection, _put("outbox", 4), outbox)
            connection.execute("UPDATE meta SET head_index = ?, head_hash = ?, sealed = ?", (head.index, head.hash, sealed))
        self._next_place = next_place
        for place, kind, key, _ in rows:
            self._places[kind, key] = place
        for name, value in latest.items():
            if value is None:
                self._places.pop(name, None)

    def close(self) -> None:
        """Close the file and let the lock go."""
        with self._translated():
            try:
                self._connection.close()
            finally:
                os.close(self._lock)

    def _prepare(self, migrations: Sequence[str]) -> None:
        connection = self._connection
        # Exclusive: no shared-memory index, no lock calls per transaction; the lock file says the same to other programs.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise StoreError(
                f"{self._path} has schema version {version}, this release knows {len(migrations)}: "
                "run the release that wrote it, or a newer one"
            )
        for step in range(version, len(migrations)):
            connection.executescript(f"BEGIN IMMEDIATE; {migrations[step]}; PRAGMA user_version = {step + 1}; COMMIT;")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def _begin_epoch(self) -> Opened:
        with self._transaction() as connection:
            row = connection.execute("SELECT epoch, sealed, head_index, head_hash FROM meta").fetchone()
            epoch, sealed, index, digest = row or (0, 0, GENESIS.index, GENESIS.hash)
            connection.execute("INSERT OR REPLACE INTO meta VALUES (1, ?, 0, ?, ?)", (epoch + 1, index, digest))
            outbox = connection.execute("SELECT stream, day, at, lines FROM outbox").fetchall()
        tails = {Stream(stream): Tail(day, at, lines) for stream, day, at, lines in outbox}
        return Opened(epoch, epoch + 1, bool(sealed), Head(index, digest), tails)

    def _index(self) -> tuple[dict[tuple[str, str], int], int]:
        places = {(kind, key): place for place, kind, key in self._connection.execute("SELECT place, kind, key FROM state")}
        return places, max(places.values(), default=0) + 1

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors (disk full) have rolled back already
                with suppress(sqlite3.Error):  # the error that brought us here is the one to tell
                    connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self._path} is damaged ({error}): put back a copy, or move the whole directory aside to start anew"
            ) from error


def _put(table: str, columns: int) -> Callable[[int], str]:
    row = "(" + ", ".join("?" * columns) + ")"
    return lambda rows: f"INSERT OR REPLACE INTO {table} VALUES " + ", ".join([row] * rows)  # noqa: S608 - our own names


def _remove(rows: int) -> str:
    return f"DELETE FROM state WHERE place IN ({', '.join('?' * rows)})"  # noqa: S608 - nothing but marks


def _in_chunks(connection: sqlite3.Connection, statement: Callable[[int], str], rows: Sequence[tuple[object, ...]]) -> None:
    done = 0
    for size in _CHUNKS:
        while len(rows) - done >= size:
            connection.execute(statement(size), tuple(chain.from_iterable(rows[done : done + size])))
            done += size


def _take_lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{path.parent} is in use by another daemon") from error
    return descriptor
