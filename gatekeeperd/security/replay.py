"""What was accepted once is not accepted again: bounded memories of counters and of nonces.

What lives here: the window of a session's counters and the record of nonces of timestamped messages. What never does:
clocks, and the check that a message is genuine, which must pass before any of these is asked: else a forger could fill
them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

#: Counters behind the highest that may still come, so that UDP may reorder (RFC 6479 discusses the size).
WINDOW: Final = 64
_MASK: Final = (1 << WINDOW) - 1


class ReplayWindow:
    """Counters of one direction under one session challenge. 0 is never accepted: counters start at 1."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 1

    def is_new(self, counter: int) -> bool:
        """Say what :meth:`accept` would, and take nothing."""
        ahead = counter - self._highest
        return ahead > 0 or (counter > 0 and ahead > -WINDOW and not self._seen & 1 << -ahead)

    def accept(self, counter: int) -> bool:
        """Take ``counter`` and return True, or return False where it came before or is too far behind."""
        ahead = counter - self._highest
        if ahead > 0:
            # Beyond the window every bit would be shifted out anyway, and a jump can be 2**64 wide.
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self._highest = counter
            return True
        bit = 1 << -ahead if ahead > -WINDOW else 0
        if not bit or counter <= 0 or self._seen & bit:
            return False
        self._seen |= bit
        return True


class SeenOnce:
    """Nonces of messages whose timestamp bounds their life, for any number of owners whose keys we hold.

    ``lifetime_s`` is how long a message can be presented at all: twice the tolerated skew. An owner has room for
    ``per_owner`` nonces within that time; one more is refused, so nobody can push out what was seen, and nobody's
    messages cost another's.
    """

    __slots__ = ("_lifetime_s", "_owners", "_per_owner")

    # A cookie lives 60 s and a timestamp may be 30 s off either way; the second more is for who counts in milliseconds.
    def __init__(self, lifetime_s: float = 61.0, per_owner: int = 1024) -> None:
        self._lifetime_s = lifetime_s
        self._per_owner = per_owner
        self._owners: dict[str, OrderedDict[Hashable, float]] = {}

    def forget(self, owner: str) -> None:
        """Drop what was seen of an owner that is no more."""
        self._owners.pop(owner, None)

    def is_new(self, owner: str, nonce: Hashable) -> bool:
        """Say whether ``nonce`` was not seen; take nothing."""
        return nonce not in self._owners.get(owner, ())

    def accept(self, owner: str, nonce: Hashable, wall: float) -> bool:
        """Take ``nonce`` and return True, or return False where it was seen or ``owner`` has no room. ``wall``: Unix seconds."""
        seen = self._owners.setdefault(owner, OrderedDict())
        # A clock that steps back makes old messages fresh again, so what lies ahead of it stays.
        while seen and next(iter(seen.values())) < wall - self._lifetime_s:
            seen.popitem(last=False)
        if nonce in seen or len(seen) >= self._per_owner:
            return False
        seen[nonce] = wall
        return True
