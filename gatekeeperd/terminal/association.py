"""The secured association with one gatekeeper: what the terminal sends under it, and what it believes.

What lives here: the session key's use from the terminal's side, counters, the renewal of the challenge.
What never does: the cryptography (``security/``) and what a message means (``endpoint``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import Message
from gatekeeperd.errors import SecurityError
from gatekeeperd.security.credential import Claims, sign_message
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.replay import ReplayWindow
from gatekeeperd.security.session import Direction, Session, check, protect, renewed
from gatekeeperd.security.tokens import read_challenge


class ReplayError(SecurityError):
    """A message of the gatekeeper's came a second time. Its MAC holds; it means nothing."""


@dataclass(frozen=True, slots=True)
class _Generation:
    """The session under one challenge, and what the gatekeeper already said under it."""

    session: Session
    window: ReplayWindow


class Association:
    """One registration's session with the gatekeeper at ``address``.

    Our counter never restarts, also not when the challenge is renewed. The gatekeeper's grows over its restarts (epoch
    in the upper half), so a challenge is adopted only from a message newer than all before: an old message can't bring
    an old challenge back. The generation before the present one is still listened to, because an answer that was
    durable before a restart is repeated as it was.
    """

    def __init__(
        self, session: Session, *, address: TransportAddress, gatekeeper_identifier: str, endpoint_identifier: str
    ) -> None:
        self._now = _Generation(session, ReplayWindow())
        self._before: _Generation | None = None
        self._counter = 0
        self._highest = 0
        self.address = address
        self.gatekeeper_identifier = gatekeeper_identifier
        self.endpoint_identifier = endpoint_identifier

    def seal(self, message: Message) -> bytes:
        """Return the octets of ``message`` with SESSION_MAC."""
        self._counter += 1
        return protect(message, self._now.session, self._counter, Direction.TO_GATEKEEPER)

    def sign(self, message: Message, claims: Claims, key: KeyPair) -> bytes:
        """Return the octets of ``message`` with CREDENTIAL and SESSION_MAC under one counter."""
        self._counter += 1
        session = self._now.session
        return sign_message(message, replace(claims, counter=self._counter), key, session.challenge, session=session)

    def open(self, pdu: bytes, message: Message) -> bool:
        """Check that the gatekeeper sent ``message`` under our session, and not before.

        Returns whether the message brings the challenge now in force: a refusal that does so asks for the request again.
        It may be protected under a challenge that we know or under the very one that it brings, which a restarted
        gatekeeper has alone. The MAC covers the token either way.

        Raises:
            SecurityError: no MAC or a wrong one; :class:`ReplayError`: seen before.

        """
        challenge = read_challenge(message)
        known = [generation for generation in (self._now, self._before) if generation is not None]
        fresh = None
        if challenge is not None and all(challenge != generation.session.challenge for generation in known):
            fresh = _Generation(renewed(self._now.session, challenge), ReplayWindow())
            known.append(fresh)
        generation, counter = _open_any(pdu, message, known)
        if not generation.window.accept(counter) or (generation is fresh and counter <= self._highest):
            raise ReplayError(f"counter {counter} came twice or is too old")
        if fresh is not None and counter > self._highest:
            self._now, self._before = fresh, self._now
        self._highest = max(self._highest, counter)
        return challenge == self._now.session.challenge


def _open_any(pdu: bytes, message: Message, generations: list[_Generation]) -> tuple[_Generation, int]:
    for generation in generations[:-1]:
        with suppress(SecurityError):
            return generation, check(pdu, message, generation.session, Direction.TO_TERMINAL)
    return generations[-1], check(pdu, message, generations[-1].session, Direction.TO_TERMINAL)
