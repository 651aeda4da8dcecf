"""The RAS state machine of a guardian terminal: discovery, registration, keepAlive, and finding another gatekeeper.

What lives here: states and transitions, and which message of whom counts in which state.
What never does: I/O and clocks. Octets and ``now`` (seconds on any monotonic clock) come in, datagrams and events go out:
feed :meth:`Endpoint.receive_datagram` and :meth:`Endpoint.handle_timer`, then send :meth:`Endpoint.datagrams_to_send`,
read :meth:`Endpoint.next_event` until it is ``None``, and come back at :meth:`Endpoint.get_timer`.

Trust, in one paragraph: GCF, GRJ and RRJ carry no proof, so they only ever lead to asking somebody or to giving up.
An RCF counts when the pinned service key signed it; from then on nothing counts but what carries a good MAC of that
session. The rest is ignored and counted in :attr:`Endpoint.ignored`. A gatekeeper that lost the session (which it
should not: sessions are durable) can't say so credibly; the keepAlive runs out of retries and discovery starts anew.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from random import SystemRandom
from types import MappingProxyType
from typing import Any, ClassVar

from gatekeeperd.core.actions import Send, TransportAddress
from gatekeeperd.core.ras.messages import CONFIRM, Message
from gatekeeperd.errors import DecodeError, SecurityError, TerminalError
from gatekeeperd.terminal import messages
from gatekeeperd.terminal.association import ReplayError
from gatekeeperd.terminal.call_control import CallControl
from gatekeeperd.terminal.calls import CallRequest, Phase
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Event,
    KeptAlive,
    Lost,
    Party,
    Registered,
    RegistrationRefused,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.gatekeepers import Alternate, read_alternates
from gatekeeperd.terminal.line import REQUEST_OF, Line
from gatekeeperd.terminal.search import BEGIN_ANEW, Denied, Exhausted, Outcome, Proven, Search
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.terminal.states import TRANSITIONS, State
from gatekeeperd.terminal.transactions import Transaction
from gatekeeperd.wire.h225 import decode_ras

#: The registration is renewed when this much of its time is over, less up to a tenth of that at random.
KEEP_ALIVE_AT = 0.8
KEEP_ALIVE_JITTER = 0.1

_RANDOM = SystemRandom()

#: Reasons of a gatekeeper's URQ after which it is asked again at once (H.225.0 v7 section 7.10.1). A terminal whose
#: guardian registered from elsewhere hears undefinedReason: two that both came back would put each other out for ever.
_COME_BACK = frozenset({"reregistrationRequired", "ttlExpired", "maintenance"})


class Endpoint:
    """One guardian's RAS endpoint. Not thread safe; one event loop or one test owns it."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        random: Callable[[], float] = _RANDOM.random,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.settings = settings
        self.state = State.IDLE
        self._random = random
        self._line = Line(settings, random)
        self._calls = CallControl(self._line, randbytes)
        self._search = Search(self._line, self._enter)
        #: Alternates that share our registration and were not asked yet to carry it on.
        self._resume: deque[Alternate] = deque()
        self._was_registered = False
        self._backoff_s = settings.backoff_s[0]
        self._time_to_live_s: int | None = None
        self._keep_alive_at: float | None = None
        self._retry_at: float | None = None

    # Facts

    @property
    def ignored(self) -> Counter[str]:
        """Datagrams that meant nothing, by why: malformed, source, unauthenticated, replayed, forged, unexpected."""
        return self._line.ignored

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that exist, by hexadecimal callIdentifier."""
        return tuple(self._calls.calls)

    @property
    def admitted(self) -> tuple[str, ...]:
        """Those of :attr:`calls` that the gatekeeper has admitted and nobody is ending."""
        return tuple(key for key, call in self._calls.calls.items() if call.phase is Phase.ADMITTED)

    # What the owner asks for

    def start(self, now: float) -> None:
        """Discover a gatekeeper and register.

        Raises:
            TerminalError: it was started before.

        """
        if self.state is not State.IDLE:
            raise TerminalError("this terminal is already registered, or about to be")
        self._discover(now)

    def admit(self, request: CallRequest) -> str:
        """Ask for a call; :class:`Admitted` or :class:`Refused` follows. Returns its name in events.

        Raises:
            TerminalError: not registered, or the bandwidth is no multiple of 100 bit/s.

        """
        self._require_registered()
        return self._calls.admit(request)

    def change_bandwidth(self, call: str, bandwidth_bps: int) -> None:
        """Ask for another bandwidth; :class:`BandwidthChanged` or :class:`BandwidthRefused` follows.

        Raises:
            TerminalError: there is no such admitted call, or the bandwidth is no multiple of 100 bit/s.

        """
        self._require_registered()
        self._calls.change_bandwidth(call, bandwidth_bps)

    def disengage(self, call: str) -> None:
        """End an admitted call; :class:`Disengaged` follows.

        Raises:
            TerminalError: there is no such admitted call.

        """
        self._require_registered()
        self._calls.disengage(call)

    def keep_alive(self) -> None:
        """Renew the registration now, not only when most of its time is over; :class:`KeptAlive` follows.

        Raises:
            TerminalError: not registered.

        """
        self._require_registered()
        self._send_keep_alive()

    def unregister(self) -> None:
        """Leave; :class:`Unregistered` follows. Before a registration, this stops the search for one."""
        if self.state is not State.REGISTERED:
            self._end(Party.TERMINAL, "not registered")
            return
        association = self._line.secured
        self._enter(State.UNREGISTERING)
        self._keep_alive_at = None
        sequence = self._line.transactions.next_sequence()
        identifiers = association.gatekeeper_identifier, association.endpoint_identifier
        self._line.request(messages.unregistration_request(self.settings, sequence, *identifiers))

    # The shell's side

    def datagrams_to_send(self, now: float) -> list[Send]:
        """Take what is to leave; retransmission clocks start at ``now``, so ask right before sending."""
        return self._line.drain(now)

    def next_event(self) -> Event | None:
        """Take the next event, ``None`` when there is none."""
        return self._line.events.popleft() if self._line.events else None

    def get_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, ``None`` for never."""
        report_at = self._calls.deadline() if self.state is State.REGISTERED else None
        deadlines = (self._line.transactions.deadline(), report_at, self._keep_alive_at, self._retry_at)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Retransmit, keep alive, report, search again: whatever is due at ``now``."""
        again, dead = self._line.transactions.due(now)
        for transaction in again:
            self._line.resend(transaction)
        for transaction in dead:
            self._unanswered(transaction, now)
        if self._keep_alive_at is not None and self._keep_alive_at <= now:
            self._send_keep_alive()
        if self._retry_at is not None and self._retry_at <= now:
            self._discover(now)
        if self.state is State.REGISTERED:
            self._calls.handle_timer(now)

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float) -> None:
        """Take one datagram. Never raises, whatever the octets."""
        if self._line.answer_again(data, source):
            return
        try:
            message = decode_ras(data)
        except DecodeError:
            self.ignored["malformed"] += 1
            return
        if not isinstance(message[1], dict):
            # An admissionConfirmSequence, or a message of a later version: nothing that we would have asked for.
            self.ignored["unexpected"] += 1
        elif self._line.association is None:
            self._settle(self._search.receive(data, source, message, now), now)
        elif source != self._line.association.address:
            self.ignored["source"] += 1
        else:
            self._receive_secured(data, message, now)

    # Before there is a session

    def _discover(self, now: float) -> None:
        self._retry_at = None
        self._settle(self._search.begin(), now)

    def _settle(self, outcome: Outcome | None, now: float) -> None:
        """Act on what the search came to, ``None`` while it goes on."""
        match outcome:
            case Proven():
                self._line.association = outcome.association
                self._was_registered = True
                self._registered(outcome.fields, now, resumed=False)
            case Denied():
                self._enter(State.IDLE)
                self._line.events.append(RegistrationRefused(reason=outcome.reason, detail=outcome.detail))
            case Exhausted():
                self._pause(outcome, now)

    def _pause(self, outcome: Exhausted, now: float) -> None:
        pause = None
        if self._was_registered:
            pause = self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, self.settings.backoff_s[1])
            self._retry_at = now + pause
        self._enter(State.IDLE if pause is None else State.WAITING)
        self._line.events.append(Unreachable(tried=outcome.tried, unproven=outcome.unproven, retry_in_s=pause))

    # Under a session

    def _receive_secured(self, data: bytes, message: Message, now: float) -> None:
        name, fields = message
        try:
            renewed = self._line.secured.open(data, message)
        except ReplayError:
            self.ignored["replayed"] += 1
            return
        except SecurityError:
            self.ignored["unauthenticated"] += 1
            return
        request = self._REQUESTS.get(name)
        if request is not None:
            request(self, data, fields, now)
            return
        transaction = self._line.transactions.find(fields["requestSeqNum"], self._line.secured.address)
        if transaction is None:
            self.ignored["unexpected"] += 1
        elif name == "requestInProgress":
            self._line.progress(transaction, fields["delay"], now)
        elif REQUEST_OF.get(name) != transaction.name:
            self.ignored["unexpected"] += 1
        else:
            self._line.close(transaction, name, now)
            confirms = name in CONFIRM.values() and name != "registrationConfirm"
            if renewed and not confirms and not transaction.repeated:
                self._line.repeat(transaction)
            else:
                self._answered(transaction, message, now)

    def _answered(self, transaction: Transaction, message: Message, now: float) -> None:
        name, fields = message
        if name == "registrationConfirm":
            self._kept_alive(fields, now)
        elif name == "registrationReject":
            self._keep_alive_rejected(fields, now)
        elif transaction.name == "unregistrationRequest":
            self._end(Party.TERMINAL, "" if name == "unregistrationConfirm" else messages.refusal(fields)[0])
        else:
            self._calls.answered(transaction, message, now)

    def _send_keep_alive(self) -> None:
        association = self._line.secured
        self._keep_alive_at = None
        sequence = self._line.transactions.next_sequence()
        identifiers = association.gatekeeper_identifier, association.endpoint_identifier
        self._line.request(messages.keep_alive(self.settings, sequence, *identifiers))

    def _kept_alive(self, fields: dict[str, Any], now: float) -> None:
        if self.state is State.RESUMING:
            self._line.secured.gatekeeper_identifier = fields.get("gatekeeperIdentifier", "")
            self._registered(fields, now, resumed=True)
        elif self.state is State.REGISTERED:
            self._note_terms(fields, now)
            self._line.events.append(KeptAlive(time_to_live_s=self._time_to_live_s))

    def _keep_alive_rejected(self, fields: dict[str, Any], now: float) -> None:
        reason, detail = messages.refusal(fields)
        address = self._line.secured.address
        self._drop(Party.LOSS, reason)
        if fields["rejectReason"][0] in BEGIN_ANEW:
            self._line.events.append(Lost(address=address, reason=reason))
            self._discover(now)
        else:
            self._enter(State.IDLE)
            self._line.events.append(RegistrationRefused(reason=reason, detail=detail))

    def _registered(self, fields: dict[str, Any], now: float, *, resumed: bool) -> None:
        association = self._line.secured
        self._enter(State.REGISTERED)
        self._backoff_s = self.settings.backoff_s[0]
        self._resume.clear()
        self._note_terms(fields, now)
        self._line.events.append(
            Registered(
                address=association.address,
                gatekeeper_identifier=association.gatekeeper_identifier,
                endpoint_identifier=association.endpoint_identifier,
                time_to_live_s=self._time_to_live_s,
                resumed=resumed,
            )
        )

    def _note_terms(self, fields: dict[str, Any], now: float) -> None:
        """Take timeToLive and alternates from a proven RCF."""
        if "alternateGatekeeper" in fields:
            self._search.alternates = read_alternates(fields["alternateGatekeeper"])
        self._time_to_live_s = fields.get("timeToLive", self._time_to_live_s)
        if self._time_to_live_s is not None:
            share = KEEP_ALIVE_AT * (1 - KEEP_ALIVE_JITTER * self._random())
            self._keep_alive_at = now + share * self._time_to_live_s

    # Requests of the gatekeeper, proven

    def _unregistration_request(self, data: bytes, fields: dict[str, Any], now: float) -> None:
        self._line.answer(data, ("unregistrationConfirm", {"requestSeqNum": fields["requestSeqNum"]}))
        self._search.alternates = read_alternates(fields.get("alternateGatekeeper", ())) or self._search.alternates
        reason = fields["reason"][0] if "reason" in fields else "undefinedReason"
        self._drop(Party.GATEKEEPER, reason)
        self._line.events.append(Unregistered(by=Party.GATEKEEPER, reason=reason))
        if reason in _COME_BACK and self.state is not State.UNREGISTERING:
            self._discover(now)
        else:
            self._enter(State.IDLE)

    def _disengage_request(self, data: bytes, fields: dict[str, Any], _now: float) -> None:
        self._calls.disengage_request(data, fields)

    def _bandwidth_request(self, data: bytes, fields: dict[str, Any], _now: float) -> None:
        self._calls.bandwidth_request(data, fields)

    def _info_request(self, data: bytes, fields: dict[str, Any], _now: float) -> None:
        self._calls.info_request(data, fields)

    _REQUESTS: ClassVar[Mapping[str, Callable[[Endpoint, bytes, dict[str, Any], float], None]]] = MappingProxyType(
        {
            "unregistrationRequest": _unregistration_request,
            "disengageRequest": _disengage_request,
            "bandwidthRequest": _bandwidth_request,
            "infoRequest": _info_request,
        }
    )

    # Silence

    def _unanswered(self, transaction: Transaction, now: float) -> None:
        match transaction.name:
            case "gatekeeperRequest" | "registrationRequest" if self._line.association is None:
                self._settle(self._search.ask_next(), now)
            case "registrationRequest":
                self._keep_alive_unanswered(now)
            case "unregistrationRequest":
                self._end(Party.TERMINAL, NO_ANSWER)
            case _:
                self._calls.unanswered(transaction)

    def _keep_alive_unanswered(self, now: float) -> None:
        if self.state is State.REGISTERED:
            self._line.events.append(Lost(address=self._line.secured.address, reason=NO_ANSWER))
            self._resume.extend(alternate for alternate in self._search.alternates if not alternate.need_to_register)
        elif self.state is not State.RESUMING:
            return
        self._line.transactions.clear()
        self._keep_alive_at = None
        if self._resume:
            self._enter(State.RESUMING)
            self._resume_at(self._resume.popleft())
        else:
            self._drop(Party.LOSS, NO_ANSWER)
            self._discover(now)

    def _resume_at(self, alternate: Alternate) -> None:
        association = self._line.secured
        association.address = alternate.address
        association.gatekeeper_identifier = alternate.gatekeeper_identifier or association.gatekeeper_identifier
        self._send_keep_alive()

    # Helpers

    def _drop(self, by: Party, reason: str) -> None:
        """Give the registration up, with all that hangs on it."""
        self._calls.drop_all(by, reason)
        self._line.transactions.clear()
        self._line.association = None
        self._keep_alive_at = None

    def _end(self, by: Party, reason: str) -> None:
        self._drop(by, reason)
        self._search.stop()
        self._resume.clear()
        self._retry_at = None
        self._was_registered = False
        self._enter(State.IDLE)
        self._line.events.append(Unregistered(by=by, reason=reason))

    def _require_registered(self) -> None:
        if self.state is not State.REGISTERED:
            raise TerminalError("this terminal is not registered")

    def _enter(self, state: State) -> None:
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.state.name} -> {state.name}")
        self.state = state
