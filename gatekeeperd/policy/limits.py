"""Rate limits: how often somebody may ask, before anybody looks at what they ask.

What lives here: a token bucket and a bounded table of one bucket a source; both are told the time. What never does:
decoding, answers, and which sources are to be limited. A take costs well under a microsecond, since a flood pays it
for each datagram.
"""

from __future__ import annotations

from collections import OrderedDict
from socket import AF_INET6, inet_pton  # a pure function; no socket is made here
from typing import Final

#: ::ffff:0:0/96: each of these is one IPv4 host, so a whole /64 of them must not share a bucket.
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"


class TokenBucket:
    """At most ``burst`` takes at once and ``rate`` takes a second in the long run.

    It is the generic cell rate algorithm (ITU-T I.371 annex A): one float, the time at which the bucket would be full
    again, stands for the level, so that there is nothing to refill. Times are seconds on any clock that never goes
    back; should one go back all the same, takes are refused until it has caught up.
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket needs a rate above 0 and a burst of at least 1, not {rate} and {burst}")
        self._interval = 1 / rate
        # Half a token of slack swallows rounding without ever adding up to a whole one.
        self._tolerance = (burst - 0.5) * self._interval
        self._full_at = float("-inf")

    def take(self, now: float) -> bool:
        """Take one token at ``now`` (seconds); false when there is none, which costs the asker nothing."""
        full_at = self._full_at
        if full_at <= now:
            self._full_at = now + self._interval
            return True
        if full_at - now > self._tolerance:
            return False
        self._full_at = full_at + self._interval
        return True


class SourceLimiter:
    """One :class:`TokenBucket` a source host, for at most ``max_sources`` hosts; the longest silent one is forgotten.

    An IPv6 source is its /64, because that is what one subscriber has. A host that is forgotten starts with a full
    bucket: to gain from that, a flood has to make up ``max_sources`` other addresses for each burst.
    """

    __slots__ = ("_buckets", "_burst", "_max_sources", "_rate")

    def __init__(self, rate: float, burst: int, max_sources: int) -> None:
        if max_sources < 1:
            raise ValueError(f"max_sources must be at least 1, not {max_sources}")
        TokenBucket(rate, burst)  # refuse bad figures at start, not at the first datagram
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._buckets: OrderedDict[str | bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, host: str, now: float) -> bool:
        """Take one token of ``host``, an IP address literal without a scope (ValueError if IPv6 and malformed)."""
        source = _network(host) if ":" in host else host
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= self._max_sources:
                self._buckets.popitem(last=False)
            bucket = self._buckets[source] = TokenBucket(self._rate, self._burst)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(now)


def _network(host: str) -> bytes:
    try:
        address = inet_pton(AF_INET6, host)
    except OSError as error:
        raise ValueError(f"{host!r} is not an IPv6 address") from error
    return address if address.startswith(_IPV4_MAPPED) else address[:8]
