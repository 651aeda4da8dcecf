"""What can be wrong with a log, each kind by its name.

What lives here: kinds, findings, the report, the limits of what is normal.
What never does: finding anything (``verify.py``), printing (``cli/witness.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gatekeeperd.witness.chain import Head

#: Findings that a report keeps whole; beyond that they are counted only.
MAX_FINDINGS: Final = 1000


class Gravity(Enum):
    """What a finding means for the verdict."""

    TAMPERING = "tampering"
    IRREGULAR = "irregular"
    NOTICE = "notice"


class Kind(Enum):
    """Kinds of findings. The value is the public name."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    CUT_OFF = "cut_off"
    MISPLACED = "misplaced"
    BAD_SIGNATURE = "bad_signature"
    HEAD_MISMATCH = "head_mismatch"
    HEAD_MISSING = "head_missing"
    EPOCH_BACK = "epoch_back"
    LATE_CHECKPOINT = "late_checkpoint"
    STALE_HEAD = "stale_head"
    TORN = "torn"
    UNSEALED = "unsealed"
    UNSIGNED_TAIL = "unsigned_tail"
    CLOCK_BACK = "clock_back"
    UNCHECKED_HEAD = "unchecked_head"
    OTHER_KEY = "other_key"

    @property
    def gravity(self) -> Gravity:
        """Tampering and irregularity make a log fail; a notice is for the reader's information."""
        return _GRAVITY.get(self, Gravity.TAMPERING)


_GRAVITY: Final = {
    Kind.LATE_CHECKPOINT: Gravity.IRREGULAR,
    Kind.STALE_HEAD: Gravity.IRREGULAR,
    Kind.OTHER_KEY: Gravity.IRREGULAR,
    Kind.TORN: Gravity.NOTICE,
    Kind.UNSEALED: Gravity.NOTICE,
    Kind.UNSIGNED_TAIL: Gravity.NOTICE,
    Kind.CLOCK_BACK: Gravity.NOTICE,
    Kind.UNCHECKED_HEAD: Gravity.NOTICE,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. ``index`` is the record's, ``line`` counts from 1 in ``file``; None: not known."""

    kind: Kind
    detail: str
    index: int | None = None
    file: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Report:
    """What a verifier saw. ``first`` and ``head`` span the records read; ``signed`` is the last index under a good signature."""

    records: int = 0
    checkpoints: int = 0
    first: int = 0
    head: Head | None = None
    signed: int = 0
    findings: list[Finding] = field(default_factory=list)
    unlisted: int = 0

    def add(self, finding: Finding) -> None:
        """Keep ``finding``, or count it when there are too many; a notice never displaces what makes the log fail."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        elif finding.kind.gravity is not Gravity.NOTICE:
            self.unlisted += 1

    @property
    def verified(self) -> bool:
        """No finding but notices."""
        return not self.unlisted and all(finding.kind.gravity is Gravity.NOTICE for finding in self.findings)

    @property
    def tampered(self) -> bool:
        """At least one finding that only tampering, or damage like it, explains."""
        return any(finding.kind.gravity is Gravity.TAMPERING for finding in self.findings)
