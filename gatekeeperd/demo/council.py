"""Who takes part in the demo: the council's eight and eighteen more, with keys made for this one run.

What lives here: the cast. What never does: private keys on disk; only the registry, with the public ones, is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatekeeperd.policy.registry import Guardian, GuardianStatus
from gatekeeperd.security.keys import KeyPair

ROOM: Final = "council"
#: One participant more than a room takes.
MEMBERS: Final = 26
MORE_QUOTA_BPS: Final = 1_000_000

#: Alias, name and quota (bit/s) of the eight.
_EIGHT: Final = (
    ("T-01", "technical", 2_500_000),
    ("C-01", "civic", 2_000_000),
    ("E-01", "ethical", 2_500_000),
    ("K-01", "knowledge", 2_000_000),
    ("Cont-01", "contrarian", 2_500_000),
    ("M-01", "meta", 2_000_000),
    ("S-01", "systems", 2_500_000),
    ("A-01", "archivist", 2_000_000),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A guardian, its key, and the loopback address that its terminal uses."""

    guardian: Guardian
    key: KeyPair
    host: str

    @property
    def alias(self) -> str:
        """The short name."""
        return self.guardian.aliases[0]

    @property
    def name(self) -> str:
        """The terminal_id without its prefix."""
        return self.guardian.terminal_id.rpartition("/")[2]


def convene() -> tuple[Member, ...]:
    """Make the 26 members with fresh keys; the eight come first."""
    more = tuple((f"G-{number:02}", f"guest-{number:02}", MORE_QUOTA_BPS) for number in range(len(_EIGHT) + 1, MEMBERS + 1))
    return tuple(
        member(alias, name, quota_bps, host=f"127.0.0.{11 + index}")
        for index, (alias, name, quota_bps) in enumerate(_EIGHT + more)
    )


def member(alias: str, name: str, quota_bps: int, *, host: str) -> Member:
    """Make one member with a fresh key."""
    terminal_id = f"if://guardian/{name}"
    key = KeyPair.generate(terminal_id)
    guardian = Guardian(
        terminal_id=terminal_id,
        public_key=key.public,
        role=name,
        description="made for one run of the demo",
        archetype=name,
        bandwidth_quota_bps=quota_bps,
        registered_at=datetime.now(UTC).replace(microsecond=0),
        status=GuardianStatus.ACTIVE,
        veto_power=False,
        specialization=(),
        aliases=(alias,),
    )
    return Member(guardian, key, host)
