"""What durability costs: sealing, committing, syncing, verifying. Figures are of the machine and disk it runs on."""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from gatekeeperd.core.actions import Change, Commit, Record, Stream
from gatekeeperd.store.ledger import Ledger
from gatekeeperd.witness.chain import GENESIS, Author
from gatekeeperd.witness.files import snapshot
from gatekeeperd.witness.verify import verify

RUNS = 5
#: As many commits as gather behind one write at 5,000 requests/s.
GROUP = 50
GROUPS = 60
RECORDS = 20_000
SYNCS = 200
#: An answered admission: state and answer, one of a call ended and one answer forgotten, and the record that tells of it.
PAYLOAD = {
    "terminalIdentity": "if://guardian/technical",
    "callIdentifier": "5d" * 16,
    "endpointIdentifier": "9b" * 16,
    "callType": "ROUTINE",
    "bandwidthBps": 384_000,
    "granted": True,
    "gates": ["authenticity", "registry", "pii", "fairness", "capacity"],
    "reason": None,
}


def _commits(count: int, first: int = 0) -> list[Commit]:
    record = Record("admission", "5d" * 16, PAYLOAD)
    return [
        Commit(
            ticket,
            (
                Change("call", secrets.token_hex(16), b"c" * 250),
                Change("answer", f"192.0.2.{ticket % 250}:{ticket}", b"a" * 400),
                Change("answer", f"192.0.2.{(ticket - 1000) % 250}:{ticket - 1000}", None),
            ),
            (record,),
        )
        for ticket in range(first, first + count)
    ]


def _open(directory: Path, key: SigningKey) -> Ledger:
    return Ledger.open(directory, node="bench", signing_key=key, clock=time.time_ns)


def _ledger(directory: Path) -> dict[str, float]:
    """Commit groups one after the other; milliseconds for a group, and processor microseconds for a commit."""
    ledger = _open(directory, SigningKey.generate())
    groups = [_commits(GROUP, number * GROUP) for number in range(GROUPS)]
    walls = []
    cpu = time.thread_time()
    for group in groups:
        start = time.perf_counter()
        ledger.commit(group)
        walls.append((time.perf_counter() - start) * 1e3)
    cpu = time.thread_time() - cpu
    single = []
    for commit in _commits(SYNCS, GROUP * GROUPS):
        start = time.perf_counter()
        ledger.commit([commit])
        single.append((time.perf_counter() - start) * 1e3)
    ledger.close()
    return {
        "ledger_commit_ms": statistics.median(walls),
        "ledger_commit_single_ms": statistics.median(single),
        "ledger_commit_cpu_us": cpu / (GROUP * GROUPS) * 1e6,
        "ledger_commits_per_s": GROUP * GROUPS / (sum(walls) / 1e3),
    }


def _seal(_: Path) -> dict[str, float]:
    author = Author("bench", 1, SigningKey.generate())
    record = Record("admission", "5d" * 16, PAYLOAD)
    head = GENESIS
    start = time.perf_counter()
    for _ in range(RECORDS):
        head, _line = author.seal(head, record, "2026-03-28T12:00:00.000001Z")
    return {"witness_records_per_s": RECORDS / (time.perf_counter() - start)}


def _verify(directory: Path) -> dict[str, float]:
    key = SigningKey.generate()
    ledger = _open(directory, key)
    for first in range(0, RECORDS, 1000):
        ledger.commit([Commit(first, (), tuple(Record("admission", "5d" * 16, PAYLOAD) for _ in range(1000)))])
    ledger.close()
    start = time.perf_counter()
    log = snapshot(directory)
    report = verify([log.lines(stream) for stream in Stream], key=key.verify_key, head=log.head, anchor=log.anchor)
    elapsed = time.perf_counter() - start
    if report.findings:
        raise AssertionError(report.findings)
    return {"witness_verify_records_per_s": report.records / elapsed}


def _sync(directory: Path) -> dict[str, float]:
    descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    times = []
    for _ in range(SYNCS):
        os.write(descriptor, b"x" * 25_000)
        start = time.perf_counter()
        os.fdatasync(descriptor)
        times.append((time.perf_counter() - start) * 1e3)
    os.close(descriptor)
    return {"fdatasync_ms": statistics.median(times)}


UNITS = {
    "ledger_commit_ms": f"ms ({GROUP} commits)",
    "ledger_commit_single_ms": "ms (1 commit)",
    "ledger_commit_cpu_us": "us/commit",
    "ledger_commits_per_s": "1/s",
    "witness_records_per_s": "1/s",
    "witness_verify_records_per_s": "1/s",
    "fdatasync_ms": "ms",
}


def run() -> list[dict[str, Any]]:
    """Return one entry a figure: name, unit, median, min, max and number of runs."""
    figures: dict[str, list[float]] = {}
    parts: list[Callable[[Path], dict[str, float]]] = [_seal, _ledger, _sync, _verify]
    for _ in range(RUNS):
        for part in parts:
            # Beside the checkout, since /tmp is memory on some machines and a sync there costs nothing.
            with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as directory:
                for name, value in part(Path(directory)).items():
                    figures.setdefault(name, []).append(value)
    return [
        {
            "name": name,
            "unit": UNITS[name],
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "runs": len(values),
        }
        for name, values in figures.items()
    ]
