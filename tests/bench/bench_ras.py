"""The daemon under load over loopback: one processor for the server, one for the load, as the README's figures say."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatekeeperd.core.ras.messages import Message
from gatekeeperd.security.keys import parse_public_key
from gatekeeperd.terminal import messages
from gatekeeperd.wire.h225 import decode_ras, encode_ras
from tests.bench.guardians import SignedIn, admission, endpoint, numbered, sign_in, write_guardians
from tests.bench.load import Generator, Result

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench"
RUNS = 3
GUARDIANS = 500

CONFIG = """\
node: bench
state_directory: {state}
registry: {registry}
gatekeeper: {{allow_unsigned: true, max_calls: 1000000}}
ras: {{bind: ["127.0.0.1"], port: 0, multicast: false}}
http: {{bind: ["127.0.0.1"], port: 0}}
metrics: {{bind: ["127.0.0.1"], port: 0}}
limits: {{total_bps: 1000000000000, calls_per_guardian: 1000000, room_participants: 1000000}}
rates: {{per_source_per_s: 1000000, per_source_burst: 1000000, per_session_per_s: 1000000, per_session_burst: 1000000}}
log: {{level: error}}
"""


class Server:
    """A gatekeeperd of its own on the first processor."""

    def __init__(self, directory: Path) -> None:
        write_guardians(directory / "registry.yaml", GUARDIANS)
        (directory / "gatekeeperd.yaml").write_text(
            CONFIG.format(state=directory / "state", registry=directory / "registry.yaml")
        )
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gatekeeperd.cli.daemon",
                "run",
                "--config",
                str(directory / "gatekeeperd.yaml"),
                "--print-json",
            ],
            stdout=subprocess.PIPE,
        )
        os.sched_setaffinity(self.process.pid, {min(os.sched_getaffinity(0))})
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        host, port = ready["ras"][0]
        self.ras = (host, port)
        self.service_key = parse_public_key(ready["service_public_key"])
        self.witness = Path(ready["witness"])

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@contextmanager
def server() -> Iterator[Server]:
    # In the checkout, because the system's temporary directory is often memory, where durability costs nothing.
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        running = Server(Path(directory))
        try:
            yield running
        finally:
            running.stop()


def register(generator: Generator, first: int, last: int) -> list[str]:
    """Register unsigned endpoints and return their endpointIdentifiers."""
    identifiers = []
    for number in range(first, last):
        rrq = plain_registration(number, generator, number % 65_000 + 1)
        answer = decode_ras(generator.exchange(encode_ras(rrq)))
        identifiers.append(answer[1]["endpointIdentifier"])
    return identifiers


def plain_registration(number: int, generator: Generator, sequence: int) -> Message:
    """A full RRQ of an endpoint that is no guardian: an h323-ID and a number."""
    name, fields = messages.registration_request(unsigned(number, generator), sequence, "council")
    return name, fields | {"terminalAlias": [("h323-ID", f"ld{number:06}"), ("dialledDigits", f"9{number:06}")]}


def unsigned(number: int, generator: Generator) -> Any:
    # Beyond the registry's numbers, so that no alias belongs to a guardian.
    return endpoint(1_000_000 + number, generator)


def keep_alives(generator: Generator, identifiers: list[str], count: int) -> Iterator[tuple[int, bytes]]:
    sequences = numbered()
    return iter(
        [
            (sequence, encode_ras(messages.keep_alive(unsigned(number, generator), sequence, "council", identifier)))
            for (number, identifier), sequence in zip(
                itertools.islice(itertools.cycle(enumerate(identifiers)), count), sequences, strict=False
            )
        ]
    )


def full_registrations(generator: Generator, identifiers: list[str], count: int) -> Iterator[tuple[int, bytes]]:
    def message(number: int, identifier: str, sequence: int) -> bytes:
        name, fields = plain_registration(number, generator, sequence)
        return encode_ras((name, fields | {"endpointIdentifier": identifier}))

    pairs = itertools.islice(itertools.cycle(enumerate(identifiers)), count)
    return iter([(sequence, message(*pair, sequence)) for pair, sequence in zip(pairs, numbered(), strict=False)])


def admissions(guardians: list[SignedIn], first: int, count: int) -> Iterator[tuple[int, bytes]]:
    chosen = itertools.islice(itertools.cycle(guardians), count)
    return iter(
        [
            (sequence, admission(guardian, first + number, sequence))
            for number, (guardian, sequence) in enumerate(zip(chosen, numbered(), strict=False))
        ]
    )


def run(progress: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Measure; one dict a figure: name, unit, median, min, max, runs."""
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(whole)})
    try:
        return [*_unsigned(progress), *_signed(progress)]
    finally:
        os.sched_setaffinity(0, whole)


def _unsigned(progress: Callable[[str], None]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with server() as running:
        generator = Generator(running.ras)
        results.append(_figure("rss_idle_mb", "MB", [running.rss_mb()]))
        identifiers: list[str] = []
        for count in (10, 100, 1_000, 10_000):
            progress(f"RAS with {count} endpoints")
            identifiers += register(generator, len(identifiers), count)
            alive = [_closed(generator, keep_alives(generator, identifiers, 40_000), 40_000) for _ in range(RUNS)]
            full = [_closed(generator, full_registrations(generator, identifiers, 8_000), 8_000) for _ in range(RUNS)]
            suffix = "" if count == 1_000 else f"_{count}"
            results.append(_figure(f"ras_keepalive_per_s{suffix}", "1/s", [each.per_s for each in alive]))
            results.append(_figure(f"ras_full_rrq_per_s{suffix}", "1/s", [each.per_s for each in full]))
            if count >= 1_000:
                paced = [generator.paced(keep_alives(generator, identifiers, 2_500), rate=500, limit=2_500) for _ in range(RUNS)]
                results.append(
                    _figure(f"ras_keepalive_p99_at_500_ms{suffix}", "ms", [each.percentile_ms(0.99) for each in paced])
                )
        results.append(_figure("rss_10000_endpoints_mb", "MB", [running.rss_mb()]))
        generator.close()
    return results


def _signed(progress: Callable[[str], None]) -> list[dict[str, Any]]:
    progress("signed and durable ARQ")
    with server() as running:
        generator = Generator(running.ras)
        guardians = [sign_in(number, generator, running.service_key) for number in range(1, GUARDIANS + 1)]
        first, rates, paced = 1, [], []
        for _ in range(RUNS):
            result = _closed(generator, admissions(guardians, first, 20_000), 20_000)
            rates.append(result.per_s)
            first += 20_000
            slow = generator.paced(admissions(guardians, first, 2_500), rate=500, limit=2_500)
            _expect_all(slow)
            paced.append(slow.percentile_ms(0.99))
            first += 2_500
        generator.close()
        recorded = sum(file.read_bytes().count(b'"admission.granted"') for file in running.witness.rglob("*.jsonl"))
        if recorded != first - 1:
            raise RuntimeError(f"{first - 1} admissions were answered and {recorded} recorded")
    return [_figure("ras_signed_arq_per_s", "1/s", rates), _figure("ras_signed_arq_p99_at_500_ms", "ms", paced)]


def _closed(generator: Generator, requests: Iterator[tuple[int, bytes]], count: int) -> Result:
    result = generator.closed(requests, window=64, limit=count)
    _expect_all(result)
    return result


def _expect_all(result: Result) -> None:
    """A rate of refusals, or of what was lost, is no figure."""
    if result.rejected or result.answered < result.sent:
        raise RuntimeError(f"of {result.sent} requests {result.answered} were answered and {result.rejected} refused")


def _figure(name: str, unit: str, values: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "runs": len(values),
    }
