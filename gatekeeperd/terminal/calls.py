"""The calls of one terminal as RAS knows them: asked for, admitted, being given up.

What lives here: a call's identity and what was granted. What never does: PDUs, timers, signalling.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gatekeeperd.security.credential import CallType


class Phase(Enum):
    """Where a call stands with the gatekeeper."""

    REQUESTED = "requested"
    ADMITTED = "admitted"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a guardian asks for. ``bandwidth_bps`` counts both directions, a multiple of 100 bit/s (H.225.0 BandWidth)."""

    destination: str
    bandwidth_bps: int
    call_type: CallType = CallType.ROUTINE
    has_pii: bool = False
    #: The council's name for the call, by default the destination's. It is read for personal data like any name.
    call_id: str = ""


@dataclass(slots=True, kw_only=True)
class Call:
    """One call. ``key``, the hexadecimal callIdentifier, names it in events."""

    guid: bytes
    conference_id: bytes
    reference: int
    destination: str
    bandwidth_bps: int
    phase: Phase = Phase.REQUESTED
    call_model: str = "gatekeeperRouted"
    irr_frequency_s: int | None = None
    #: ACF willRespondToIRR: unsolicited IRRs are confirmed.
    irr_confirmed: bool = False
    irr_at: float | None = None

    @property
    def key(self) -> str:
        """The callIdentifier, 32 hexadecimal digits."""
        return self.guid.hex()
