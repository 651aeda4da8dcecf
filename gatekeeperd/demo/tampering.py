"""Proof that the witness log would show it: copies of the log, each tampered with in one way, and the verifier's word.

What lives here: three ways to cheat. What never does: touching the log itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.signing import VerifyKey

from gatekeeperd.core.actions import Stream
from gatekeeperd.demo.results import Attempt
from gatekeeperd.errors import WitnessError
from gatekeeperd.witness.files import snapshot
from gatekeeperd.witness.findings import Finding, Gravity, Kind, Report
from gatekeeperd.witness.verify import verify


def check(directory: Path, key: VerifyKey) -> Report:
    """Verify a log as ``councilctl witness verify`` does."""
    log = snapshot(directory)
    return verify([log.lines(stream) for stream in Stream], key=key, head=log.head, anchor=log.anchor)


def tamper(directory: Path, copies: Path, key: VerifyKey) -> list[Attempt]:
    """Tamper with a copy of the log in each way and say what the verifier found."""
    return [_attempt(directory, copies, key, way) for way in _WAYS]


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to cheat: what it claims to hide, in the file that has ``event``, and the change to that file's lines."""

    kind: Kind
    what: str
    event: bytes
    change: Callable[[list[bytes], int], list[bytes]]


def _attempt(directory: Path, copies: Path, key: VerifyKey, way: _Way) -> Attempt:
    copy = copies / way.kind.value
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("state.*"))
    path, lines, at = _find(copy, b'"event":"' + way.event + b'"')
    path.write_bytes(b"".join(way.change(lines, at)))
    report = check(copy, key)
    found = [finding for finding in report.findings if finding.kind.gravity is Gravity.TAMPERING]
    named = next((finding for finding in found if finding.kind is way.kind), None)
    actual = "not found" if not found else (named or found[0]).kind.value
    return Attempt(way.what, path.name, way.kind.value, actual, "" if named is None else _describe(named))


def _find(log: Path, marker: bytes) -> tuple[Path, list[bytes], int]:
    """Return the first file that has ``marker``, its lines, and the number of the line."""
    for path in sorted((log / "h323_witness").glob("*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines):
            if marker in line:
                return path, lines, number
    raise WitnessError(f"{log} has no record with {marker.decode()}")


def _describe(finding: Finding) -> str:
    place = "" if finding.line is None else f"line {finding.line}: "
    return f"{place}{finding.detail}"


def _alter(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at].replace(b"if://guardian/", b"if://guardian/not-"), *lines[at + 1 :]]


def _remove(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at] + lines[at + 1 :]


def _cut(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at]


_WAYS: Final = (
    _Way(Kind.ALTERED, "another guardian named in a rejection", b"admission.rejected", _alter),
    _Way(Kind.REMOVED, "an admission removed", b"admission.granted", _remove),
    _Way(Kind.CUT_OFF, "the log cut off where the calls end", b"call.ended", _cut),
)
