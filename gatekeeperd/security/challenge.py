"""The challenge of a GCF: a cookie that shows who asked and when, so that a GRQ changes nothing at the gatekeeper.

What lives here: making and checking cookies. What never does: that each is used once (``core`` keeps that record: only
there is known which registration succeeded).

32 octets: 8 of time (milliseconds of a monotonic clock, big endian), then 24 of HMAC-SHA-256 under a secret of this
process over that time, the source address and the gatekeeperIdentifier.
"""

from __future__ import annotations

import hmac
from typing import Final

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import SecurityError
from gatekeeperd.security.tokens import frame

LIFETIME_S: Final = 60.0

_DOMAIN: Final = b"guardian-council/challenge/1"
_TIME_LENGTH: Final = 8
_MAC_LENGTH: Final = 24


class Challenger:
    """Makes and checks the challenges of one gatekeeper. ``secret`` (32 octets) never leaves it and need not outlive it."""

    __slots__ = ("_gatekeeper_identifier", "_secret")

    def __init__(self, secret: bytes, gatekeeper_identifier: str) -> None:
        self._secret = secret
        self._gatekeeper_identifier = gatekeeper_identifier.encode()

    def make(self, source: TransportAddress, now: float) -> bytes:
        """Return a challenge (32 octets) for ``source``; ``now`` in seconds of a clock that never goes back."""
        return self._cookie(source, int(now * 1000).to_bytes(_TIME_LENGTH, "big"))

    def check(self, challenge: bytes, source: TransportAddress, now: float) -> None:
        """Check that we made ``challenge`` for ``source`` at most 60 s before ``now``. Raises SecurityError."""
        time = challenge[:_TIME_LENGTH]
        if not hmac.compare_digest(self._cookie(source, time), challenge):
            raise SecurityError("the challenge is not ours, or another source's")
        if not 0 <= int(now * 1000) - int.from_bytes(time, "big") <= LIFETIME_S * 1000:
            raise SecurityError("the challenge is older than 60 s")

    def _cookie(self, source: TransportAddress, time: bytes) -> bytes:
        host, port = source
        octets = frame(_DOMAIN, time, host.encode(), port.to_bytes(2, "big"), self._gatekeeper_identifier)
        return time + hmac.digest(self._secret, octets, "sha256")[:_MAC_LENGTH]
