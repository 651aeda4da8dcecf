"""What a guardian terminal tells its owner: small frozen facts, in the order in which they became true.

What lives here: the events of :class:`~gatekeeperd.terminal.endpoint.Endpoint`.
What never does: PDU values. An event is plain text and numbers, fit for a status line or a JSON line as it is.

Units: bandwidth in bit/s both directions summed, durations in seconds, addresses ``(host literal, port)``.
A ``reason`` is the council's name for a refusal (``CAPACITY_EXCEEDED`` ...) where the gatekeeper gave one, else the
Recommendation's reject reason (``duplicateAlias`` ...), or ``NO_ANSWER`` where nothing came at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from gatekeeperd.core.actions import TransportAddress

#: The reason of a request that ran out of retries.
NO_ANSWER = "NO_ANSWER"


class Party(Enum):
    """Who ended something."""

    TERMINAL = "terminal"
    GATEKEEPER = "gatekeeper"
    #: Nobody said so: the registration that carried it is gone.
    LOSS = "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """A gatekeeper answered GRQ with GCF. It has proved nothing yet."""

    address: TransportAddress
    gatekeeper_identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An RCF signed by the pinned service key. ``resumed``: an alternate took the living registration over, calls go on."""

    address: TransportAddress
    gatekeeper_identifier: str
    endpoint_identifier: str
    time_to_live_s: int | None
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRefused:
    """GRJ or RRJ, and no other gatekeeper left to ask. An outsider on the path could have sent it: it carries no signature."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """No gatekeeper answered, or none that could prove to hold a pinned service key (``unproven``).

    ``retry_in_s`` is ``None`` when the endpoint gave up.
    """

    tried: tuple[TransportAddress, ...]
    unproven: tuple[TransportAddress, ...]
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlive:
    """A keepAlive was confirmed under the session key: the registration lives another ``time_to_live_s``."""

    time_to_live_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The gatekeeper no longer answers, or no longer knows the registration. The endpoint looks for another by itself."""

    address: TransportAddress
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregistered:
    """The registration is over, and with it every call."""

    by: Party
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """ACF: signal to ``address``. ``bandwidth_bps`` may be less than was asked for."""

    call: str
    address: TransportAddress
    bandwidth_bps: int
    call_model: str
    irr_frequency_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """ARJ, or no answer to ARQ. The call does not exist any more."""

    call: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthChanged:
    """BCF to our BRQ, or a BRQ of the gatekeeper that we confirmed."""

    call: str
    bandwidth_bps: int
    by: Party


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthRefused:
    """BRJ, or no answer to BRQ. The call goes on as it was; ``allowed_bps`` is what would be granted."""

    call: str
    reason: str
    detail: str
    allowed_bps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disengaged:
    """The call is over."""

    call: str
    by: Party
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """One request met its answer. ``seconds`` counts from the first transmission; with ``attempts`` > 1 it is ambiguous."""

    request: str
    answer: str
    seconds: float
    attempts: int


Event: TypeAlias = (
    Discovered
    | Registered
    | RegistrationRefused
    | Unreachable
    | KeptAlive
    | Lost
    | Unregistered
    | Admitted
    | Refused
    | BandwidthChanged
    | BandwidthRefused
    | Disengaged
    | RoundTrip
)
