"""The secured association with one gatekeeper: what the terminal sends under it, and what it believes.

What lives here: the session key's use from the terminal's side, counters, the renewal of the challenge.
What never does: the cryptography (``security/``) and what a message means (``endpoint``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

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


#: The gatekeeper's counters are epoch << 32 | n; its epoch grows at each of its starts.
_EPOCH_BITS = 32


class Association:
    """One registration's session with the gatekeeper at ``address``.

    Our counter never restarts, also not when the challenge is renewed. The gatekeeper's has a replay window for each of
    its two newest epochs: an answer that was durable before a restart is repeated as it was, and still counts once. A
    challenge is adopted only from a message newer than all before, so an old message can't bring an old one back.
    """

    def __init__(
        self, session: Session, *, address: TransportAddress, gatekeeper_identifier: str, endpoint_identifier: str
    ) -> None:
        self._session = session
        self._before: Session | None = None
        self._windows = {session.epoch: ReplayWindow()}
        self._counter = 0
        self._highest = 0
        self.address = address
        self.gatekeeper_identifier = gatekeeper_identifier
        self.endpoint_identifier = endpoint_identifier

    @property
    def challenge(self) -> bytes:
        """The challenge in force (32 octets)."""
        return self._session.challenge

    def seal(self, message: Message) -> bytes:
        """Return the octets of ``message`` with SESSION_MAC."""
        self._counter += 1
        return protect(message, self._session, self._counter, Direction.TO_GATEKEEPER)

    def sign(self, message: Message, claims: Claims, key: KeyPair) -> bytes:
        """Return the octets of ``message`` with CREDENTIAL and SESSION_MAC under one counter."""
        self._counter += 1
        claims = replace(claims, counter=self._counter)
        return sign_message(message, claims, key, self._session.challenge, session=self._session)

    def open(self, pdu: bytes, message: Message) -> bool:
        """Check that the gatekeeper sent ``message`` under our session, and not before.

        Returns whether the message brings the challenge now in force: a refusal that does so asks for the request again.
        It may be protected under a challenge that we know or under the very one that it brings. The MAC covers the
        token either way.

        Raises:
            SecurityError: no MAC or a wrong one; :class:`ReplayError`: seen before, or too old to tell.

        """
        challenge = read_challenge(message)
        known = [session for session in (self._session, self._before) if session is not None]
        fresh = None
        if challenge is not None and all(challenge != session.challenge for session in known):
            fresh = renewed(self._session, challenge)
            known.append(fresh)
        counter = _check_any(pdu, message, known)
        if not self._window(counter >> _EPOCH_BITS).accept(counter):
            raise ReplayError(f"counter {counter} came twice or is too old")
        if fresh is not None and counter > self._highest:
            self._session, self._before = fresh, self._session
        self._highest = max(self._highest, counter)
        return challenge == self._session.challenge

    def _window(self, epoch: int) -> ReplayWindow:
        window = self._windows.get(epoch)
        if window is None:
            if epoch < min(self._windows):
                raise ReplayError(f"epoch {epoch} is long over")
            window = self._windows[epoch] = ReplayWindow()
            if len(self._windows) > 2:
                del self._windows[min(self._windows)]
        return window


def _check_any(pdu: bytes, message: Message, sessions: list[Session]) -> int:
    for session in sessions[:-1]:
        with suppress(SecurityError):
            return check(pdu, message, session, Direction.TO_TERMINAL)
    return check(pdu, message, sessions[-1], Direction.TO_TERMINAL)
