"""Ledgers and logs for tests: a clock that tests move, commits, and a judgement of a directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nacl.signing import SigningKey

from gatekeeperd.core.actions import Change, Commit, Record, Stream
from gatekeeperd.store.ledger import Ledger
from gatekeeperd.witness.chain import Head
from gatekeeperd.witness.files import snapshot
from gatekeeperd.witness.findings import Report
from gatekeeperd.witness.verify import verify

KEY = SigningKey(b"a node key of the tests, no other".ljust(32)[:32])
SECOND = 1_000_000_000
NOON = int(datetime(2026, 3, 28, 12, 0, tzinfo=UTC).timestamp()) * SECOND


@dataclass
class Clock:
    """UTC nanoseconds that stand still until told otherwise."""

    now: int = NOON

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def open_ledger(directory: Path, clock: Clock | None = None, **options) -> Ledger:
    directory.mkdir(exist_ok=True)
    return Ledger.open(directory, node="node-a", signing_key=KEY, clock=clock or Clock(), **options)


def commit_of(ticket: int, stream: Stream = Stream.RAS, value: bytes | None = b"{}") -> Commit:
    """A commit with one state change and one record; both carry the ticket."""
    record = Record("admission", f"{ticket:032x}", {"ticket": ticket, "granted": True}, stream)
    return Commit(ticket, (Change("call", f"call-{ticket}", value),), (record,))


def records_of(directory: Path) -> list[dict]:
    """All records, in the order of their index, read without the code under test."""
    lines = [line for path in sorted(directory.glob("*/*.jsonl")) for line in path.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda record: record["index"])


def tickets_of(directory: Path) -> list[int]:
    return [record["payload"]["ticket"] for record in records_of(directory) if record["event"] == "admission"]


def judge(directory: Path, *, witnessed: Head | None = None, key: SigningKey = KEY) -> Report:
    log = snapshot(directory)
    return verify(
        [log.lines(stream) for stream in Stream],
        key=key.verify_key,
        head=log.head,
        anchor=log.anchor,
        witnessed=witnessed,
    )


def kinds(report: Report) -> set[str]:
    return {finding.kind.value for finding in report.findings}


def abandon(ledger: Ledger) -> None:
    """What the kernel does to a killed process: its descriptors close, nothing else happens."""
    ledger._files.close()
    ledger._store._connection.close()
    os.close(ledger._store._lock)
