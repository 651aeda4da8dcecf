"""The log's files: where each record stands, how lines become durable, what is moved aside or removed.

What lives here: daily files and their directories, appending with fdatasync, mending after a crash, removing whole days, and a
snapshot for readers.
What never does: hashes and signatures (``chain.py``), judgement (``verify.py``), knowing what was acknowledged (``store/``).

Layout under one directory (files 0600, directories 0700)::

    h323_witness/h323_ras_YYYYMMDD.jsonl   h323_witness/head.json  h323_witness/node.pub  h323_witness/retained.json
    gateway/gateway_YYYYMMDD.jsonl         ha/failover_YYYYMMDD.jsonl         torn/

The day is UTC, and never goes back: when the clock does, records go on in the newest day's files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from gatekeeperd.core.actions import Stream
from gatekeeperd.errors import WitnessError
from gatekeeperd.witness.chain import MAX_LINE, Head, read_line

_PLACES: Final = {
    Stream.RAS: ("h323_witness", "h323_ras_"),
    Stream.GATEWAY: ("gateway", "gateway_"),
    Stream.HA: ("ha", "failover_"),
}
_DAY_FILE: Final = re.compile(r"[a-z0-9_]+_(\d{8})\.jsonl")

HEAD_FILE: Final = "h323_witness/head.json"
ANCHOR_FILE: Final = "h323_witness/retained.json"
KEY_FILE: Final = "h323_witness/node.pub"
TORN_DIRECTORY: Final = "torn"

#: How often a reader looks for a moment at which no file of a busy log grows.
_STOCK_TAKINGS: Final = 50

_START_OVER: Final = "or move the whole directory aside: the daemon then starts a new chain, and endpoints register anew"


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of one stream: they belong at ``offset`` (octets) of the file of ``day`` (YYYYMMDD), and end it."""

    day: str
    offset: int
    lines: bytes

    @property
    def end(self) -> int:
        """Length of the file, in octets, once the lines are in it."""
        return self.offset + len(self.lines)


@dataclass(frozen=True, slots=True)
class Torn:
    """Octets that a crash left where a whole line belongs: cut from ``file`` at ``offset``, kept in ``kept_as``."""

    file: str
    offset: int
    octets: int
    kept_as: str


def file_name(stream: Stream, day: str) -> str:
    """Return the name, relative to the log's directory, of the file of ``stream`` on ``day`` (YYYYMMDD)."""
    folder, prefix = _PLACES[stream]
    return f"{folder}/{prefix}{day}.jsonl"


def days(directory: Path, stream: Stream) -> list[str]:
    """Return the days (YYYYMMDD) that have a file of ``stream``, oldest first."""
    folder, prefix = _PLACES[stream]
    names = (_DAY_FILE.fullmatch(path.name) for path in (directory / folder).glob(f"{prefix}*.jsonl"))
    return sorted(match[1] for match in names if match)


class WitnessFiles:
    """The writing side of one log directory. Every method raises WitnessError where the disk refuses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[Stream, tuple[str, int]] = {}

    def prepare(self) -> None:
        """Make the directories that are not there yet."""
        try:
            for folder, _ in _PLACES.values():
                (self._directory / folder).mkdir(mode=0o700, exist_ok=True)
            _sync_directory(self._directory)
        except OSError as error:
            raise WitnessError(f"{self._directory}: {error.strerror}") from error

    def append(self, tails: Mapping[Stream, Tail]) -> None:
        """Put each tail where it belongs and make it durable. Repeating it, also after a failure half-way, changes nothing."""
        for stream, tail in tails.items():
            try:
                descriptor = self._descriptor(stream, tail.day)
                # After a failed write or sync the page cache can't be trusted: every octet is written again, in its place.
                _write_all(descriptor, tail.lines, tail.offset)
                os.fdatasync(descriptor)
            except OSError as error:
                raise WitnessError(f"{file_name(stream, tail.day)}: {error.strerror}") from error

    def mend(self, tails: Mapping[Stream, Tail]) -> list[Torn]:
        """Make the files end with ``tails`` (all that the store knows of); return what a crash had torn.

        Raises WitnessError when the files hold more than the store ever wrote, or lack what it had made durable: then one of
        the two is not the one that belongs to the other.
        """
        torn = []
        for stream in Stream:
            tail = tails.get(stream)
            newest = max(days(self._directory, stream), default="")
            if newest > (tail.day if tail else ""):
                raise WitnessError(f"{file_name(stream, newest)} is ahead of the store: put back the newest store, {_START_OVER}")
            if tail is not None:
                torn += self._mend(stream, tail)
        return torn

    def _mend(self, stream: Stream, tail: Tail) -> list[Torn]:
        name = file_name(stream, tail.day)
        try:
            found = self._read_from(name, tail)
        except FileNotFoundError:
            found = b""
            if tail.offset:
                raise WitnessError(f"{name} is missing: put it back, {_START_OVER}") from None
        except OSError as error:
            raise WitnessError(f"{name}: {error.strerror}") from error
        if len(found) > len(tail.lines):
            raise WitnessError(f"{name} is ahead of the store: put back the newest store, {_START_OVER}")
        if found == tail.lines:
            return []
        whole = 0
        for line in tail.lines.splitlines(keepends=True):
            if not found.startswith(line, whole):
                break
            whole += len(line)
        torn = [self._set_aside(name, tail.offset + whole, found[whole:])] if found[whole:] else []
        self.append({stream: tail})
        return torn

    def _read_from(self, name: str, tail: Tail) -> bytes:
        with (self._directory / name).open("rb") as file:
            if os.fstat(file.fileno()).st_size < tail.offset:
                raise WitnessError(f"{name} is shorter than what was made durable: put it back, {_START_OVER}")
            file.seek(tail.offset)
            return file.read(len(tail.lines) + 1)

    def _set_aside(self, name: str, offset: int, octets: bytes) -> Torn:
        folder = self._directory / TORN_DIRECTORY
        kept_as = f"{TORN_DIRECTORY}/{Path(name).name}.{offset}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self.replace(kept_as, octets)
        except OSError as error:
            raise WitnessError(f"{kept_as}: {error.strerror}") from error
        return Torn(name, offset, len(octets), kept_as)

    def replace(self, name: str, octets: bytes) -> None:
        """Give the file ``name`` (relative) new content, atomically and durably."""
        path = self._directory / name
        fresh = path.with_name(path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, octets, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fresh.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise WitnessError(f"{name}: {error.strerror}") from error

    def read(self, name: str) -> bytes | None:
        """Return the content of the small file ``name`` (relative), None where there is none."""
        try:
            return _read_small(self._directory / name)
        except OSError as error:
            raise WitnessError(f"{name}: {error.strerror}") from error

    def edge(self, day: str) -> tuple[Head | None, Head | None]:
        """Return the last record before ``day``, and what the first record from ``day`` on names as the one before it.

        Each is None where there is no such record. Raises WitnessError when either can't be read.
        """
        before: list[Head] = []
        after: list[Head] = []
        try:
            for stream in Stream:
                known = days(self._directory, stream)
                if old := [one for one in known if one < day]:
                    record = read_line(_last_line(self._directory / file_name(stream, old[-1])))
                    before.append(Head(record["index"], record["hash"]))
                if kept := [one for one in known if one >= day]:
                    record = read_line(_first_line(self._directory / file_name(stream, kept[0])))
                    after.append(Head(record["index"] - 1, record["prev_hash"]))
        except OSError as error:
            raise WitnessError(f"{error.filename}: {error.strerror}") from error
        return max(before, key=_index, default=None), min(after, key=_index, default=None)

    def remove_before(self, day: str) -> None:
        """Remove every file of a day before ``day``, oldest first, and what was set aside of it."""
        old = [(one, file_name(stream, one)) for stream in Stream for one in days(self._directory, stream)]
        aside = [path.name for path in (self._directory / TORN_DIRECTORY).glob("*.jsonl.*")]
        old += [(match[1], f"{TORN_DIRECTORY}/{name}") for name in aside if (match := _DAY_FILE.match(name))]
        try:
            for one, name in sorted(old):
                if one < day:
                    (self._directory / name).unlink()
        except OSError as error:
            raise WitnessError(f"{error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Close what is open. Everything appended is durable already."""
        while self._open:
            os.close(self._open.popitem()[1][1])

    def _descriptor(self, stream: Stream, day: str) -> int:
        known = self._open.get(stream)
        if known and known[0] == day:
            return known[1]
        path = self._directory / file_name(stream, day)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _sync_directory(path.parent)
        except OSError:
            os.close(descriptor)
            raise
        if known:
            os.close(known[1])
        self._open[stream] = (day, descriptor)
        return descriptor


def _index(head: Head) -> int:
    return head.index


def _write_all(descriptor: int, octets: bytes, offset: int) -> None:
    view = memoryview(octets)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(MAX_LINE)


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE))
        return b"".join(file.read().splitlines(keepends=True)[-1:])


@dataclass(frozen=True, slots=True)
class DayFile:
    """One file as a reader sees it: ``name`` relative to the directory, ``size`` in octets when the snapshot was taken."""

    name: str
    stream: Stream
    day: str
    size: int
    newest: bool


#: A file, the line's number in it (1-based), its octets. A line without a newline is the torn end of its file.
Line: TypeAlias = tuple[DayFile, int, bytes]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A log at one moment, for readers. Contents are read when asked for, up to the sizes of that moment."""

    directory: Path
    files: tuple[DayFile, ...]
    head: bytes | None
    anchor: bytes | None
    key: bytes | None

    @property
    def size(self) -> int:
        """Octets in all files."""
        return sum(file.size for file in self.files)

    def lines(self, stream: Stream, after: Mapping[str, int] | None = None) -> Iterator[Line]:
        """Yield the lines of ``stream``, oldest first, holding one at a time. OSError where a file can't be read.

        ``after`` gives, by file name, how many octets to pass over (whole lines, read before).
        """
        for file in self.files:
            if file.stream is not stream:
                continue
            start = after.get(file.name, 0) if after else 0
            left = file.size - start
            with (self.directory / file.name).open("rb") as source:
                source.seek(start)
                number = 0
                while left > 0 and (line := source.readline(min(left, MAX_LINE + 1))):
                    left -= len(line)
                    number += 1
                    yield file, number, line


def snapshot(directory: Path) -> Snapshot:
    """Take stock of the log in ``directory``, which may be growing. Raises WitnessError when it can't be read."""
    try:
        # Before the sizes: a head that is renewed meanwhile would seem to sign what the files lack.
        small = {name: _read_small(directory / name) for name in (HEAD_FILE, ANCHOR_FILE, KEY_FILE)}
        files = _stock(directory)
        for _ in range(_STOCK_TAKINGS):  # a batch may go to two streams: find a moment between two batches
            if files == (files := _stock(directory)):
                break
    except OSError as error:
        raise WitnessError(f"{error.filename}: {error.strerror}") from error
    return Snapshot(directory, files, small[HEAD_FILE], small[ANCHOR_FILE], small[KEY_FILE])


def _stock(directory: Path) -> tuple[DayFile, ...]:
    found = []
    for stream in Stream:
        known = days(directory, stream)
        for day in known:
            name = file_name(stream, day)
            with suppress(FileNotFoundError):  # retention removed it meanwhile
                found.append(DayFile(name, stream, day, (directory / name).stat().st_size, newest=day == known[-1]))
    return tuple(found)


def _read_small(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LINE)
    except FileNotFoundError:
        return None
