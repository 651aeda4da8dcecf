"""Vouching: a guardian buys a room system one registration and some calls, by a signed request over HTTPS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gatekeeperd.core.actions import Commit
from gatekeeperd.core.ras.admission import preempt
from gatekeeperd.core.ras.context import Context
from gatekeeperd.core.ras.enforcement import fingerprint
from gatekeeperd.core.ras.model import Grant
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.errors import GuardianError, SecurityError
from gatekeeperd.policy.gates import AdmissionRequest, Authentication, CallType, GateResult, Method, evaluate
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.security.keys import parse_public_key
from gatekeeperd.security.vouch import verify_vouch


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchedAdmission:
    """The body of ``POST /api/admission/request`` as it came, so that its signature can be checked over all of it.

    ``bandwidth_bps`` in bit/s, both directions summed; ``timestamp`` in POSIX seconds; ``endpoint_address`` an IP
    literal, with or without a port.
    """

    terminal_id: str
    call_id: str
    call_type: str
    bandwidth_bps: int
    has_pii: bool
    timestamp: int
    nonce: str
    endpoint_alias: str
    endpoint_address: str
    signature: str
    public_key: str | None = None

    def body(self) -> Mapping[str, Any]:
        """Return the signed JSON object, the signature included."""
        names = [name for name in self.__slots__ if name != "public_key" or self.public_key is not None]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionAnswer:
    """What came of it. ``bandwidth_bps`` is what counts; ``expires_in_s`` is how long the endpoint has to register."""

    admitted: bool
    session_id: str
    reason: RejectReason | None
    detail: str
    bandwidth_bps: int
    expires_in_s: int
    gates: tuple[GateResult, ...]
    trace_id: str


def admit(context: Context, request: VouchedAdmission, now: float) -> tuple[AdmissionAnswer, Commit]:
    """Judge a guardian's voucher by the same gates as an ARQ. The answer must not leave before the commit is durable."""
    transaction = Transaction()
    trace_id = context.new_trace()
    guardian = context.registry.get(request.terminal_id)
    host, authentication = _authenticate(context, request, now)
    public_key = None
    if request.public_key is not None and authentication.verified:
        public_key = parse_public_key(request.public_key)
    previous = context.state.grant_for(("", request.endpoint_alias), host)
    if previous is not None and previous.terminal_id != request.terminal_id:
        authentication = Authentication(
            verified=False, method=Method.VOUCHED, detail="another guardian vouches for this endpoint"
        )
        previous = None
    replaced = previous if previous and previous.calls_left else None
    decision = evaluate(
        AdmissionRequest(
            terminal_id=request.terminal_id,
            call_id=request.call_id,
            call_type=CallType[request.call_type],
            has_pii=request.has_pii,
            bandwidth_bps=request.bandwidth_bps,
            authentication=authentication,
            texts=(("endpoint_alias", request.endpoint_alias), ("call_id", request.call_id)),
            room=request.call_id.casefold(),
            public_key=public_key,
        ),
        guardian,
        context.state.usage(request.terminal_id, request.call_id.casefold(), live_registration=None, without=replaced),
        context.settings.limits,
        context.settings.pii_rules,
    )
    if guardian is None:
        # Nobody's key can be checked for an unknown guardian; "not registered" is the truth that helps.
        decision = replace(decision, reason=RejectReason.NOT_REGISTERED)
    session_id = context.randbytes(16).hex() if decision.granted else ""
    if decision.granted:
        if decision.preempt_bps:
            preempt(context, decision.preempt_bps, trace_id, transaction, now)
        _put_grant(context, request, session_id, host, decision.bandwidth_bps, trace_id, previous, transaction, now)
    context.stats.admissions[
        "granted" if decision.granted else "rejected", decision.reason.value if decision.reason else "NONE"
    ] += 1
    if decision.granted:
        transaction.record("voucher.granted", trace_id, **decision.record())
    elif authentication.verified:
        transaction.record("voucher.rejected", trace_id, **decision.record())
    else:
        context.note_stranger(transaction, "voucher.rejected", (host, 0), now, **decision.record())
    last = decision.gates[-1]
    answer = AdmissionAnswer(
        admitted=decision.granted,
        session_id=session_id,
        reason=decision.reason,
        detail="" if decision.granted else f"{last.rule} {last.detail}".strip(),
        bandwidth_bps=decision.bandwidth_bps,
        expires_in_s=context.settings.vouch_lifetime_s if decision.granted else 0,
        gates=decision.gates,
        trace_id=trace_id,
    )
    return answer, context.commit_now(transaction, now)


def _put_grant(
    context: Context,
    request: VouchedAdmission,
    session_id: str,
    host: str,
    bandwidth_bps: int,
    trace_id: str,
    previous: Grant | None,
    transaction: Transaction,
    now: float,
) -> None:
    """Note the voucher; a room system that is registered by the one before it goes on under this one."""
    guardian = context.registry.get(request.terminal_id)
    item = context.state.of_guardian(request.terminal_id)
    rests_on_previous = previous is not None and item is not None and item.grant == previous.session_id
    if previous is not None:
        context.state.remove_grant(previous, transaction)
        context.timers.cancel(("grant", previous.session_id))
    grant = Grant(
        session_id=session_id,
        terminal_id=request.terminal_id,
        call_id=request.call_id,
        call_type=CallType[request.call_type],
        has_pii=request.has_pii,
        bandwidth_bps=bandwidth_bps,
        alias=request.endpoint_alias,
        host=host,
        lifetime_s=context.settings.vouch_lifetime_s,
        calls_left=context.settings.vouch_calls,
        registered=rests_on_previous,
        key_id=fingerprint(guardian) if guardian else "",
        trace_id=trace_id,
    )
    context.state.put_grant(grant, transaction)
    context.start_clocks(grant, now)
    if rests_on_previous and item is not None:
        context.state.put_registration(replace(item, grant=session_id, key_id=grant.key_id), transaction)


def _authenticate(context: Context, request: VouchedAdmission, now: float) -> tuple[str, Authentication]:
    guardian = context.registry.get(request.terminal_id)
    try:
        if guardian is None:
            raise SecurityError("no such guardian")
        if request.timestamp < context.started_wall:
            raise SecurityError("the request is of before our start")
        verify_vouch(request.body(), guardian.public_key, wall=context.wall(now), seen=context.nonces)
        if request.public_key is not None:
            parse_public_key(request.public_key)
        host = endpoint_host(request.endpoint_address)
    except (GuardianError, ValueError) as error:
        return "", Authentication(verified=False, method=Method.VOUCHED, detail=str(error))
    return host, Authentication(verified=True, method=Method.VOUCHED)


def endpoint_host(address: str) -> str:
    """Return the host of ``192.0.2.7``, ``192.0.2.7:1720``, ``2001:db8::7`` or ``[2001:db8::7]:1720`` as sockets spell it.

    Raises:
        ValueError: it is none of these.

    """
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    return str(ipaddress.ip_address(address))
