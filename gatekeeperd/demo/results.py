"""What a run of the demo measured, and whether it is what it should be.

What lives here: the figures and ``report.json`` (its parts are an interface, see the README). What never does: a figure
that this run did not measure.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gatekeeperd import __version__
from gatekeeperd.terminal.events import Event, Refused, RegistrationRefused, RoundTrip

#: What the run must have provoked, once each.
REJECTIONS: Final = (
    "INVALID_SIGNATURE",
    "NOT_REGISTERED",
    "PII_POLICY_VIOLATION",
    "BANDWIDTH_EXCEEDED",
    "CAPACITY_EXCEEDED",
    "replayed",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that has to fail: what, who tried, and what came of it. ``latency_ms`` is ``None`` where nobody answered."""

    what: str
    who: str
    expected: str
    actual: str
    evidence: str
    latency_ms: float | None = None

    @property
    def failed_as_it_should(self) -> bool:
        """Whether it was refused for the right reason."""
        return self.expected == self.actual


@dataclass(slots=True)
class Results:
    """The figures of one run."""

    started_at: datetime
    requested: int = 0
    admitted: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    round_trips_ms: list[float] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    tampering: list[Attempt] = field(default_factory=list)
    witness_records: int = 0
    witness_verified: bool = False
    duration_s: float = 0.0
    #: What was not as it should be.
    problems: list[str] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Count an event of any terminal."""
        match event:
            case RoundTrip():
                self.round_trips_ms.append(event.seconds * 1000)
            case Refused() | RegistrationRefused():
                self.rejections[event.reason] += 1

    def expect(self, what: str, *, holds: bool) -> None:
        """Note a problem unless ``holds``."""
        if not holds:
            self.problems.append(what)

    @property
    def tamper_detected(self) -> bool:
        """Whether every kind of tampering was found and named."""
        return bool(self.tampering) and all(attempt.failed_as_it_should for attempt in self.tampering)

    def latency_ms(self) -> dict[str, float]:
        """Return average, 95th percentile and maximum of all RAS round trips."""
        ordered = sorted(self.round_trips_ms)
        return {
            "avg": round(statistics.fmean(ordered), 3),
            "p95": round(ordered[max(0, -(-95 * len(ordered) // 100) - 1)], 3),
            "max": round(ordered[-1], 3),
        }

    def judge(self) -> None:
        """Note whatever is not as expected."""
        self.expect(f"{self.admitted} of {self.requested} guardians were admitted", holds=self.admitted == self.requested)
        for attempt in (*self.attempts, *self.tampering):
            what = f"{attempt.what}: {attempt.actual} instead of {attempt.expected}"
            self.expect(what, holds=attempt.failed_as_it_should)
        wanted = Counter(dict.fromkeys(REJECTIONS, 1))
        self.expect(f"rejections were {dict(self.rejections)}", holds=self.rejections == wanted)
        self.expect("the witness log does not verify", holds=self.witness_verified)

    def report(self) -> dict[str, Any]:
        """Return what ``report.json`` holds."""
        return {
            "admission": {"requested": self.requested, "admitted": self.admitted, "rejections": dict(self.rejections)},
            "ras_latency_ms": self.latency_ms(),
            "witness": {
                "records": self.witness_records,
                "verified": self.witness_verified,
                "tamper_detected": self.tamper_detected,
            },
            "machine": _machine(),
            "version": __version__,
            "started_at": self.started_at.isoformat(),
            "duration_s": round(self.duration_s, 3),
        }

    def save(self, path: Path) -> None:
        """Write ``report.json``."""
        path.write_text(json.dumps(self.report(), indent=2) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
