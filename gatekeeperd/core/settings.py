"""What an operator can set about the gatekeeper's behaviour, as the state machine wants it.

What lives here: frozen values with their units and defaults. What never does: reading files (``gatekeeperd.config``
does that) and anything that changes while the daemon runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.policy.gates import Limits
from gatekeeperd.policy.pii import PiiRules


class CallModel(Enum):
    """Where call signalling goes: H.225.0 ``CallModel``. The value is the choice name."""

    DIRECT = "direct"
    GATEKEEPER_ROUTED = "gatekeeperRouted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternateGatekeeper:
    """One entry of ``alternateGatekeeper`` in GCF and RCF (H.225.0 v7 section 7.6)."""

    ras_address: TransportAddress
    gatekeeper_identifier: str
    need_to_register: bool = True
    #: 0 (tried first) to 127.
    priority: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Token buckets. Messages with a valid MAC or cookie have buckets of their own, so a spoofed flood starves nobody."""

    per_source_per_s: float = 200.0
    per_source_burst: int = 400
    per_session_per_s: float = 100.0
    per_session_burst: int = 200
    max_sources: int = 4096
    #: Witness records of what strangers did wrong. Beyond this only their number is recorded, so that nobody fills the disk.
    stranger_records_per_s: float = 5.0
    stranger_records_burst: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the RAS state machine is told at start. Durations in seconds, bandwidth in bit/s."""

    gatekeeper_identifier: str
    #: Our own RAS addresses, at most one per address family; answers to an IPv6 endpoint name the IPv6 one.
    ras_addresses: tuple[TransportAddress, ...]
    call_signal_addresses: tuple[TransportAddress, ...]
    call_model: CallModel = CallModel.GATEKEEPER_ROUTED
    pre_grant: bool = False
    time_to_live_s: int = 120
    irr_frequency_s: int = 120
    allow_unsigned: bool = False
    #: H.323 alias to password, for room systems that can H.235.1 or MD5 only.
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Hosts of neighbouring gatekeepers that may send an LRQ.
    neighbours: tuple[str, ...] = ()
    alternates: tuple[AlternateGatekeeper, ...] = ()
    #: Aliases that reach the appliance itself.
    rooms: tuple[str, ...] = ("council",)
    limits: Limits = field(default_factory=Limits)
    pii_rules: PiiRules = field(default_factory=PiiRules)
    rates: RateLimits = field(default_factory=RateLimits)
    max_registrations: int = 20_000
    max_calls: int = 100_000
    answer_cache_entries: int = 16_384
    #: H.225.0 v7 table 19 has endpoints repeat a request twice, 3 to 5 s apart: after 10 s none is on its way.
    answer_cache_s: float = 10.0
    #: An answer that takes longer than this is announced by RIP.
    rip_after_s: float = 0.5
    vouch_lifetime_s: int = 300
    vouch_calls: int = 1
