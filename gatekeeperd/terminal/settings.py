"""What a guardian terminal is told once: who it is, whom it trusts, whom it asks, and how long it waits.

What lives here: frozen settings. What never does: reading them from a file or a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.keys import KeyPair


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait for an answer (seconds), and how often to ask again."""

    timeout_s: float
    retries: int


#: H.225.0 v7 section 7.19 (recommended default time-outs). Discovery asks in rounds, see ``Endpoint``.
RECOMMENDED: Mapping[str, Retry] = MappingProxyType(
    {
        "gatekeeperRequest": Retry(5.0, 2),
        "registrationRequest": Retry(3.0, 2),
        "unregistrationRequest": Retry(3.0, 1),
        "admissionRequest": Retry(5.0, 2),
        "bandwidthRequest": Retry(3.0, 2),
        "disengageRequest": Retry(3.0, 2),
        "infoRequestResponse": Retry(5.0, 2),
    }
)


#: Where a GRQ goes when nobody knows the gatekeeper's address (H.225.0 v7 section 7.8, H.323 v7 section 7.2.1).
DISCOVERY_GROUP: TransportAddress = ("224.0.1.41", 1718)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """Everything that one registration needs.

    ``service_keys`` are raw Ed25519 public keys (32 octets): an RCF that none of them signed is no RCF. More than one
    is needed only where alternate gatekeepers belong to another zone. ``ras_address`` and ``call_signal_address`` are
    what the gatekeeper is told, ``gatekeepers`` whom to ask in order of preference; :data:`DISCOVERY_GROUP` may be one.
    """

    terminal_id: str
    key: KeyPair
    service_keys: tuple[bytes, ...]
    gatekeepers: tuple[TransportAddress, ...]
    ras_address: TransportAddress
    call_signal_address: TransportAddress
    #: h323-ID aliases beside the url-ID that is always the terminal_id.
    aliases: tuple[str, ...] = ()
    gatekeeper_identifier: str | None = None
    time_to_live_s: int = 120
    retry: Mapping[str, Retry] = field(default_factory=lambda: RECOMMENDED)
    #: A lost registration is looked for again after this long, doubling up to the second (seconds).
    backoff_s: tuple[float, float] = (1.0, 30.0)

    def __post_init__(self) -> None:
        """Refuse what could never register: nobody to ask, or nobody to believe.

        Raises:
            TerminalError: no gatekeeper or no service key.

        """
        if not self.gatekeepers or not self.service_keys:
            raise TerminalError("a terminal needs the address of a gatekeeper and the service's public key")
