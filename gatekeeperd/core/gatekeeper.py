"""The RAS state machine's front door: one datagram, one timer or one operator's word in, actions out.

What lives here: the table of handlers, the order of the checks before any of them, and what each timer means. What
never does: a socket, a clock, the meaning of a single message (``core/ras`` has a module for each conversation).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gatekeeperd.core.actions import Action, Commit, Record, Send, TransportAddress
from gatekeeperd.core.ras import (
    admission,
    calls,
    closing,
    deadlines,
    discovery,
    enforcement,
    information,
    location,
    registration,
    vouching,
)
from gatekeeperd.core.ras.answers import digest
from gatekeeperd.core.ras.authentication import privileged
from gatekeeperd.core.ras.context import Context, Request, Stats
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.core.ras.vouching import AdmissionAnswer, VouchedAdmission
from gatekeeperd.core.settings import Settings
from gatekeeperd.errors import DecodeError, SecurityError
from gatekeeperd.policy.registry import Registry
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.tokens import CHALLENGE_LENGTH
from gatekeeperd.wire import h225

#: XRS repeats the whole message, with some octets of its own.
MAX_UNKNOWN_OCTETS = h225.MAX_RAS_OCTETS - 64

#: Timers in one go: what more is due waits for the next turn, so that the shell's loop is never held up for long.
MAX_TIMERS = 256

#: When a timer that failed is tried again.
FAILED_TIMER_S = 5.0

Handler: TypeAlias = Callable[[Context, Request], list[Action]]

#: H.225.0 ``RasMessage`` alternatives that we act on. The rest is answered by XRS.
HANDLERS: dict[str, Handler] = {
    "gatekeeperRequest": discovery.gatekeeper_request,
    "registrationRequest": registration.registration_request,
    "unregistrationRequest": calls.unregistration_request,
    "unregistrationConfirm": information.own_request_answered,
    "unregistrationReject": information.own_request_answered,
    "admissionRequest": admission.admission_request,
    "bandwidthRequest": calls.bandwidth_request,
    "disengageRequest": calls.disengage_request,
    "disengageConfirm": information.own_request_answered,
    "disengageReject": information.own_request_answered,
    "locationRequest": location.location_request,
    "infoRequestResponse": information.info_request_response,
    "resourcesAvailableIndicate": information.resources_available,
    "serviceControlIndication": information.service_control,
}

#: Answers to requests that we never make, and XRS itself: an answer to an answer would go round for ever.
SILENT = frozenset(
    {
        "gatekeeperConfirm",
        "gatekeeperReject",
        "registrationConfirm",
        "registrationReject",
        "admissionConfirm",
        "admissionReject",
        "admissionConfirmSequence",
        "bandwidthConfirm",
        "bandwidthReject",
        "locationConfirm",
        "locationReject",
        "unknownMessageResponse",
        "requestInProgress",
        "resourcesAvailableConfirm",
        "infoRequestAck",
        "infoRequestNak",
        "serviceControlResponse",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One admission as the API shows it.

    ``kind`` is ``call`` or ``vouched``; ``started_s`` counts from the admission or our restart.
    """

    session_id: str
    terminal_id: str | None
    kind: str
    call_id: str
    call_type: str
    bandwidth_bps: int
    endpoint_alias: str
    started_s: int
    state: str
    trace_id: str


class Gatekeeper:
    """One zone: its endpoints, its admissions and its keys. See :class:`gatekeeperd.core.settings.Settings`.

    ``now`` is always seconds on a clock that never steps (CLOCK_BOOTTIME); ``wall`` turns it into POSIX seconds, for
    H.235 time stamps alone. ``stored`` is what the store holds: kind, key, octets.

    Raises:
        StoreError: ``stored`` can't be read.

    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        service_key: KeyPair,
        epoch: int,
        stored: Mapping[str, Mapping[str, bytes]],
        now: float,
        wall: Callable[[float], float],
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._context = Context(
            settings, registry, service_key=service_key, epoch=epoch, stored=stored, now=now, wall=wall, randbytes=randbytes
        )

    # Datagrams

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float, *, multicast: bool = False) -> list[Action]:
        """Take one datagram from ``source``. No octets whatever make this raise."""
        context, stats = self._context, self._context.stats
        in_budget = context.limiter.take(source[0], now)
        if not in_budget and not self._may_be_privileged(data, source, now):
            stats.dropped["rate_limited"] += 1
            return []
        try:
            name, value = h225.decode_ras(data)
        except DecodeError as error:
            return self._malformed(source, now, str(error))
        request = Request(name, value, data, source, now, multicast, digest(data, source))
        if not in_budget and not self._is_privileged(request):
            stats.dropped["rate_limited"] += 1
            return []
        stats.received[name] += 1
        kept = context.retransmitted(request)
        if kept is not None:
            stats.dropped["retransmission"] += kept.waits
            return [] if kept.waits else [Send(kept.data, source, name)]
        handler = HANDLERS.get(name)
        if handler is None:
            return self._not_understood(request)
        context.begin()
        try:
            return handler(context, request)
        except SecurityError as error:
            context.undo(now)
            return self._malformed(source, now, str(error))
        except BaseException:
            # A bug of ours. Whatever it is, memory must not be ahead of the store.
            context.undo(now)
            raise

    def _may_be_privileged(self, data: bytes, source: TransportAddress, now: float) -> bool:
        """Say before decoding whether a datagram beyond its source's budget can be worth it: decoding is what a flood costs.

        Worth it is a cookie that this source was given, and what comes from the very address of an endpoint that proves
        its messages, as far as the budget for decoding goes.
        """
        context = self._context
        if len(data) > MAX_PRIVILEGED_OCTETS:
            return False
        if context.state.proves(source) and (_MAC_OID in data or _H235_1_ARC in data):
            return context.keeps(digest(data, source), now) or context.decodes.take(now)
        at = data.find(_COOKIE_OID)
        if at < 0:
            return False
        # The token has nothing between its OID and the challenge but the length of the latter.
        at += len(_COOKIE_OID) + 1
        try:
            context.challenger.check(data[at : at + CHALLENGE_LENGTH], source, now)
        except SecurityError:
            return False
        return context.cookie_limiter.take(source[0], now)

    def _is_privileged(self, request: Request) -> bool:
        """Say whether an empty source bucket may be passed by: a good MAC, or a cookie that this source was given."""
        context = self._context
        if context.retransmitted(request) is not None:
            return context.repeats.take(request.now)
        if privileged(context, request):
            return True
        # Its cookie was checked, and paid for, before it was decoded.
        return request.name == "registrationRequest" and not context.state.proves(request.source)

    def _malformed(self, source: TransportAddress, now: float, error: str) -> list[Action]:
        """Drop, count and record. H.225.0 has no answer to what can't be read."""
        self._context.stats.dropped["malformed"] += 1
        transaction = Transaction()
        self._context.note_stranger(transaction, "ras.malformed", source, now, error=error)
        return self._context.commit(transaction, now)

    def _not_understood(self, request: Request) -> list[Action]:
        """Answer XRS (H.225.0 section 7.20), unless that would answer an answer or not fit a datagram."""
        if request.name in SILENT or len(request.pdu) > MAX_UNKNOWN_OCTETS:
            self._context.stats.dropped["unexpected"] += 1
            return []
        sequence = request.value.get("requestSeqNum") if isinstance(request.value, dict) else None
        body: dict[str, Any] = {"requestSeqNum": sequence or 1, "messageNotUnderstood": request.pdu}
        return self._context.answer(request, ("unknownMessageResponse", body), keep=False)

    # Timers

    def get_timer(self) -> float | None:
        """Return when :meth:`handle_timer` wants to be called, in the clock of ``now``."""
        return self._context.timers.next()

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due at ``now``, at most ``MAX_TIMERS`` things: :meth:`get_timer` tells whether there is more.

        A bug of ours raises, but never at the cost of actions that were ready: they are returned, and it raises next time.
        """
        context = self._context
        actions: list[Action] = []
        for _ in range(MAX_TIMERS):
            key = context.timers.pop_due(now)
            if key is None:
                break
            kind, name = key
            context.begin()
            try:
                actions += deadlines.DUE[kind](context, name, now)
            except BaseException:
                context.undo(now)
                if actions:
                    context.timers.set(key, now)
                    return actions
                context.timers.set(key, now + FAILED_TIMER_S)
                raise
        return actions

    # The shell's and the operator's side

    def committed(self, ticket: int, now: float) -> None:  # noqa: ARG002  the replicated store's shell has to tell the time
        """Learn that the commit of that ticket is durable. Call before its ``then`` is sent."""
        self._context.committed(ticket)

    def admit(self, request: VouchedAdmission, now: float) -> tuple[AdmissionAnswer, Commit]:
        """Judge a voucher (``POST /api/admission/request``)."""
        with self._context.whole(now):
            return vouching.admit(self._context, request, now)

    def revoke(self, session_id: str, now: float) -> Commit | None:
        """End a call or a voucher by its session_id; ``None`` if there is no such session."""
        context, transaction = self._context, Transaction()
        call = context.state.call_of_session(session_id)
        with context.whole(now):
            if call is not None:
                closing.close(context, call, "revoked", transaction, now, tell=True)
            elif context.state.grant(session_id) is not None:
                closing.end_grant(context, session_id, "revoked", transaction, now)
            else:
                return None
            return context.commit_now(transaction, now)

    def sessions(self, now: float) -> list[SessionView]:
        """List all admissions: calls, and vouchers that still reserve one."""
        views = [
            SessionView(
                session_id=call.session_id,
                terminal_id=call.terminal_id,
                kind="call",
                call_id=call.call_id,
                call_type=call.call_type.name,
                bandwidth_bps=call.bandwidth_bps,
                endpoint_alias=call.destination,
                started_s=self._lasted(("longest", call.key), self.settings.limits.longest_call_s, now),
                state="answering" if call.answer_call else "admitted",
                trace_id=call.trace_id,
            )
            for call in self._context.state.calls()
        ]
        views += [
            SessionView(
                session_id=grant.session_id,
                terminal_id=grant.terminal_id,
                kind="vouched",
                call_id=grant.call_id,
                call_type=grant.call_type.name,
                bandwidth_bps=grant.bandwidth_bps,
                endpoint_alias=grant.alias,
                started_s=self._lasted(("grant", grant.session_id), grant.lifetime_s, now),
                state="registered" if grant.registered else "waiting",
                trace_id=grant.trace_id,
            )
            for grant in self._context.state.grants()
            if grant.calls_left
        ]
        return views

    def _lasted(self, timer: tuple[str, str], whole_s: int, now: float) -> int:
        """Return how long a timer of ``whole_s`` has run, in seconds."""
        due = self._context.timers.due(timer)
        return 0 if due is None else int(now - due + whole_s)

    def replace_registry(self, registry: Registry, now: float) -> Commit:
        """Take a new registry: a guardian who is no longer in it, active, with the same key, is disengaged and unregistered."""
        self._context.registry = registry
        return self.enforce_registry(now)

    def enforce_registry(self, now: float) -> Commit:
        """Hold what is registered to the registry. Also to be called at start: it may have changed meanwhile."""
        context, transaction = self._context, Transaction()
        with context.whole(now):
            enforcement.enforce_registry(context, transaction, now)
            loaded = context.registry
            transaction.record("registry.loaded", context.new_trace(), digest=loaded.digest, guardians=len(loaded))
            return context.commit_now(transaction, now)

    def replace_passwords(self, passwords: Mapping[str, str]) -> None:
        """Take new passwords: an endpoint whose password changed or is gone proves nothing from its next message on."""
        self._context.replace_passwords(passwords)

    def announce(self, record: Record, now: float) -> Commit:
        """Commit a witness record of the shell's own: start, stop, a reload that failed."""
        transaction = Transaction(records=[record])
        return self._context.commit_now(transaction, now)

    @property
    def settings(self) -> Settings:
        """What this gatekeeper was told at start."""
        return self._context.settings

    @property
    def registry(self) -> Registry:
        """The registry in force."""
        return self._context.registry

    @property
    def stats(self) -> Stats:
        """Counters since start."""
        return self._context.stats

    @property
    def registration_count(self) -> int:
        """How many endpoints are registered."""
        return self._context.state.registration_count

    @property
    def call_count(self) -> int:
        """How many parts of calls are admitted."""
        return self._context.state.call_count

    @property
    def active_sessions(self) -> int:
        """How many admissions there are, vouchers included."""
        state = self._context.state
        return state.call_count + sum(1 for grant in state.grants() if grant.calls_left)

    @property
    def bandwidth_in_use_bps(self) -> int:
        """Bandwidth granted or reserved, in bit/s."""
        return self._context.state.bandwidth_bps


#: Our CHALLENGE token's OID as it is encoded (X.690 section 8.19): 1.3.6.1.4.1.32473.77.3.
_COOKIE_OID = bytes((0x2B, 6, 1, 4, 1, 0x81, 0xFD, 0x59, 77, 3))

#: That of our SESSION_MAC token, and the arc of H.235.1's: 0.0.8.235.0.2.
_MAC_OID = bytes((0x2B, 6, 1, 4, 1, 0x81, 0xFD, 0x59, 77, 2))
_H235_1_ARC = bytes((0, 8, 0x81, 0x6B, 0, 2))

#: No message with a MAC is longer; what is, would cost too much to decode for somebody beyond its budget.
MAX_PRIVILEGED_OCTETS = 1500
