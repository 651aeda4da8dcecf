"""The session of a signing guardian as it runs: counters, replay windows, fresh challenges after a restart.

What lives here: what is not durable about a session, and the check of its MACs. What never does: messages.

A restart forgets the replay windows, so the challenge that the MACs were made under must not be trusted again. A
message that is good under such a stale challenge is answered with a fresh one, which is committed before it is told:
after any number of crashes the terminal holds either the challenge that it used last or the one that it was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from gatekeeperd.core.ras.model import Registration
from gatekeeperd.errors import SecurityError
from gatekeeperd.policy.limits import TokenBucket
from gatekeeperd.security import session as sessions
from gatekeeperd.security.replay import ReplayWindow
from gatekeeperd.security.session import Direction, Session, renewed


class Standing(Enum):
    """What a good MAC was made under."""

    LIVE = auto()
    #: A challenge that we told and that is used for the first time.
    RENEWED = auto()
    #: A challenge of before our restart: good, but perhaps a replay.
    STALE = auto()


@dataclass(slots=True)
class Link:
    """The running half of one session. ``counter`` is the last one that we used towards the terminal."""

    bucket: TokenBucket
    counter: int
    current_is_live: bool
    next_is_live: bool = False
    window: ReplayWindow = field(default_factory=ReplayWindow)

    def next_counter(self) -> int:
        """Count one message of ours."""
        self.counter += 1
        return self.counter


def verify(
    pdu: bytes, message: tuple[str, dict[str, object]], registration: Registration, link: Link
) -> tuple[Standing, Session, int]:
    """Check the MAC of a terminal's message and say under which challenge it holds, and its counter.

    Raises:
        SecurityError: it holds under no challenge of this session.

    """
    current = registration.session
    if current is None:
        raise SecurityError("this endpoint has no session")
    try:
        counter = sessions.check(pdu, message, current, Direction.TO_GATEKEEPER)
    except SecurityError:
        if registration.next_challenge is None:
            raise
        told = renewed(current, registration.next_challenge)
        counter = sessions.check(pdu, message, told, Direction.TO_GATEKEEPER)
        return (Standing.RENEWED if link.next_is_live else Standing.STALE), told, counter
    return (Standing.LIVE if link.current_is_live else Standing.STALE), current, counter
