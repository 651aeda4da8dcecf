"""Finding a gatekeeper that can prove to be ours: GRQ to one after the other, then a signed full RRQ.

What lives here: everything before there is a session, where no answer but the signed RCF proves anything.
What never does: what comes of it (``endpoint``), and keepAlives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import Message, read_transport_address
from gatekeeperd.errors import DecodeError, SecurityError
from gatekeeperd.security.credential import Claims, sign_message
from gatekeeperd.security.service import accept_session
from gatekeeperd.security.session import Exchange, Session
from gatekeeperd.security.tokens import challenge_token, read_challenge, with_tokens
from gatekeeperd.terminal import messages
from gatekeeperd.terminal.association import Association
from gatekeeperd.terminal.events import Discovered
from gatekeeperd.terminal.gatekeepers import Alternate, read_alternates, rounds
from gatekeeperd.terminal.line import REQUEST_OF, Line
from gatekeeperd.terminal.states import State
from gatekeeperd.terminal.transactions import Transaction
from gatekeeperd.wire.h225 import encode_ras

#: Reasons of an RRJ that mean "begin anew", not "no".
BEGIN_ANEW = frozenset({"discoveryRequired", "fullRegistrationRequired"})


@dataclass(frozen=True, slots=True)
class Proven:
    """A gatekeeper registered us and proved to hold a pinned service key. ``fields`` are its RCF's."""

    association: Association
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Denied:
    """GRJ or RRJ, and nobody left to ask."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nobody answered in any round, or those who did (``unproven``) hold no pinned key."""

    tried: tuple[TransportAddress, ...]
    unproven: tuple[TransportAddress, ...]


Outcome: TypeAlias = Proven | Denied | Exhausted


class Search:
    """One search at a time; each method returns what it came to, ``None`` while it goes on."""

    def __init__(self, line: Line, enter: Callable[[State], None]) -> None:
        self._line = line
        self._enter = enter
        #: Whom gatekeepers named beside themselves, best first.
        self.alternates: tuple[Alternate, ...] = ()
        self._plan: deque[tuple[TransportAddress, str | None]] = deque()
        self._tried: dict[TransportAddress, None] = {}
        self._unproven: dict[TransportAddress, None] = {}
        #: To whom the last GRQ went. Its RRQ may go elsewhere.
        self._asked = line.settings.gatekeepers[0]
        self._asked_anew = False

    def begin(self) -> Outcome | None:
        """Ask everyone we know of, in rounds."""
        settings = self._line.settings
        self._asked_anew = False
        self._tried.clear()
        self._unproven.clear()
        self._plan.extend(rounds(self.alternates, settings.gatekeepers, 1 + settings.retry["gatekeeperRequest"].retries))
        return self.ask_next()

    def stop(self) -> None:
        """Ask nobody any more."""
        self._plan.clear()

    def ask_next(self) -> Outcome | None:
        """Send GRQ to the next in the plan: whoever was asked before did not answer, or not well.

        Who answered without the key is not asked again: it would take as long again to learn the same.
        """
        while self._plan and self._plan[0][0] in self._unproven:
            self._plan.popleft()
        if not self._plan:
            return Exhausted(tuple(self._tried), tuple(self._unproven))
        self._ask(*self._plan.popleft())
        return None

    def receive(self, data: bytes, source: TransportAddress, message: Message, now: float) -> Outcome | None:
        """Take a message from somebody who has proved nothing yet."""
        name, fields = message
        transaction = self._line.transactions.find(fields["requestSeqNum"], source)
        if transaction is None:
            self._line.ignored["unexpected"] += 1
        elif name == "requestInProgress":
            self._line.progress(transaction, fields["delay"], now)
        elif REQUEST_OF.get(name) != transaction.name:
            self._line.ignored["unexpected"] += 1
        elif name == "registrationConfirm":
            return self._registration_confirmed(data, message, transaction, now)
        elif name == "gatekeeperReject" and source != transaction.to:
            # One of those who heard a multicast GRQ does not want us. Another may.
            self._line.ignored["unexpected"] += 1
        else:
            self._line.close(transaction, name, now)
            match name:
                case "gatekeeperConfirm":
                    return self._gatekeeper_confirmed(source, message)
                case "registrationReject":
                    return self._registration_rejected(transaction, message)
                case "gatekeeperReject":
                    return self._refused(fields)
        return None

    def _ask(self, address: TransportAddress, gatekeeper_identifier: str | None) -> None:
        self._enter(State.DISCOVERING)
        self._tried[address] = None
        self._asked = address
        settings = self._line.settings
        wanted = gatekeeper_identifier or settings.gatekeeper_identifier
        message = messages.gatekeeper_request(settings, self._line.transactions.next_sequence(), wanted)
        # Retries are the rounds of the plan, so that a dead gatekeeper costs one time-out before the next is asked.
        once = replace(settings.retry["gatekeeperRequest"], retries=0)
        self._line.send(Transaction(message=message, data=encode_ras(message), to=address, retry=once))

    def _gatekeeper_confirmed(self, source: TransportAddress, message: Message) -> Outcome | None:
        fields = message[1]
        try:
            address = read_transport_address(fields["rasAddress"])
            challenge = read_challenge(message)
        except (DecodeError, SecurityError):
            self._line.ignored["malformed"] += 1
            return self.ask_next()
        identifier = fields.get("gatekeeperIdentifier", "")
        self.alternates = read_alternates(fields.get("alternateGatekeeper", ())) or self.alternates
        self._line.events.append(Discovered(address=source, gatekeeper_identifier=identifier))
        self._register(address, identifier, challenge)
        return None

    def _register(self, address: TransportAddress, identifier: str, challenge: bytes | None, *, repeated: bool = False) -> None:
        """Send a full RRQ. Without a challenge it can't be accepted, but the refusal tells the guardian why."""
        self._enter(State.REGISTERING)
        settings = self._line.settings
        exchange = Exchange.generate()
        message = messages.registration_request(settings, self._line.transactions.next_sequence(), identifier)
        if challenge is not None:
            message = with_tokens(message, challenge_token(challenge))
        claims = Claims(terminal_id=settings.terminal_id)
        data = sign_message(message, claims, settings.key, challenge or b"", key_exchange=exchange.public)
        retry = settings.retry["registrationRequest"]
        self._line.send(Transaction(message=message, data=data, to=address, retry=retry, exchange=exchange, repeated=repeated))

    def _registration_confirmed(self, data: bytes, message: Message, transaction: Transaction, now: float) -> Outcome | None:
        session = self._accept(data, message, transaction)
        if session is None:
            # The request stays open: the true answer may still come.
            self._line.ignored["forged"] += 1
            self._unproven[self._asked] = None
            return None
        self._line.close(transaction, message[0], now)
        self.stop()
        fields = message[1]
        association = Association(
            session,
            address=transaction.to,
            gatekeeper_identifier=fields.get("gatekeeperIdentifier", ""),
            endpoint_identifier=fields["endpointIdentifier"],
        )
        return Proven(association, fields)

    def _accept(self, data: bytes, message: Message, transaction: Transaction) -> Session | None:
        if transaction.exchange is None:
            return None
        for service_key in self._line.settings.service_keys:
            try:
                return accept_session(
                    data, message, request=transaction.data, exchange=transaction.exchange, service_key=service_key
                )
            except SecurityError:
                continue
        return None

    def _registration_rejected(self, transaction: Transaction, message: Message) -> Outcome | None:
        fields = message[1]
        try:
            challenge = read_challenge(message)
        except SecurityError:
            challenge = None
        if challenge is not None and not transaction.repeated:
            self._register(transaction.to, transaction.message[1]["gatekeeperIdentifier"], challenge, repeated=True)
            return None
        if fields["rejectReason"][0] in BEGIN_ANEW and not self._asked_anew:
            self._asked_anew = True
            self._ask(transaction.to, None)
            return None
        return self._refused(fields)

    def _refused(self, fields: dict[str, Any]) -> Outcome | None:
        """GRJ or RRJ: go where it points, or to whom is left of those who did not answer yet; else it is the answer."""
        redirect = fields.get("altGKInfo", {}).get("alternateGatekeeper", ())
        fresh = [each for each in rounds(read_alternates(redirect), (), 1) if each[0] not in self._tried]
        if fresh:
            self._plan.extendleft(reversed(fresh))
            return self.ask_next()
        self.stop()
        return Denied(*messages.refusal(fields))
