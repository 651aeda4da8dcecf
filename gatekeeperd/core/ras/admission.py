"""Admission: ARQ, ACF, ARJ (H.225.0 section 7.11), through the five gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gatekeeperd.core.actions import Action, TransportAddress
from gatekeeperd.core.ras import closing, messages
from gatekeeperd.core.ras.authentication import Caller, Refused, recognise
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.model import Call, Grant, Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.core.settings import CallModel
from gatekeeperd.errors import DecodeError, PolicyError, SecurityError
from gatekeeperd.policy.gates import (
    AdmissionRequest,
    Authentication,
    CallType,
    Decision,
    Gate,
    GateResult,
    Method,
    PreemptibleCall,
    choose_preempted,
    evaluate,
)
from gatekeeperd.policy.pii import alias_texts
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.policy.registry import Guardian
from gatekeeperd.security.credential import read_credential, verify_credential
from gatekeeperd.security.service import CallToken, sign_call_token, verify_call_token

#: H.225.0 counts bandwidth in units of 100 bit/s, both directions summed.
BANDWIDTH_UNIT_BPS = 100

#: How a room of the appliance can also be named: by the conference that it serves.
CONFERENCE_PREFIX = "if://conference/guard/"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a call goes: a room of the appliance, or an endpoint of ours. ``name`` is what the caller asked for."""

    name: str
    room: str
    callee: Registration | None


@dataclass(frozen=True, slots=True)
class _Claims:
    """What the request says of itself, and whether that is proven."""

    authentication: Authentication
    call_id: str
    call_type: CallType
    has_pii: bool
    grant: Grant | None = None

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """What somebody typed of this. A conferenceID in hexadecimal can look like a card number by chance."""
        typed = self.grant is not None or self.authentication.method is Method.SIGNATURE
        return (("call_id", self.call_id),) if typed else ()


class _Unreachable(Exception):
    """No such destination. The argument is the ``AdmissionRejectReason``."""


def admission_request(context: Context, request: Request) -> list[Action]:
    """Answer an ARQ."""
    transaction = Transaction()
    try:
        caller = recognise(context, request, transaction)
    except Refused as refusal:
        return _refuse_stranger(context, request, refusal)
    if caller.stale:
        context.stats.admissions["rejected", RejectReason.INVALID_SIGNATURE.value] += 1
        return context.reject(
            request,
            "securityDenial",
            RejectReason.INVALID_SIGNATURE,
            "the challenge is of before a restart; sign again with the one in this answer",
            registration=caller.registration,
            transaction=transaction,
        )
    misused = _misused_identifier(context, request, caller)
    if misused:
        return _reject(context, request, caller, transaction, "requestDenied", RejectReason.GATEKEEPER_ERROR, misused)
    try:
        destination = _resolve(context, request)
    except _Unreachable as missing:
        return _reject(context, request, caller, transaction, str(missing), RejectReason.GATEKEEPER_ERROR, "no such destination")
    return _judge(context, request, caller, destination, transaction)


def _refuse_stranger(context: Context, request: Request, refusal: Refused) -> list[Action]:
    transaction = Transaction()
    payload = {"reason": refusal.reason.value, "detail": refusal.detail}
    context.note_stranger(transaction, "admission.rejected", request.source, request.now, **payload)
    context.stats.admissions["rejected", refusal.reason.value] += 1
    return context.reject(request, refusal.reason.admission_reject_reason, refusal.reason, transaction=transaction)


def _reject(
    context: Context, request: Request, caller: Caller, transaction: Transaction, choice: str, reason: RejectReason, detail: str
) -> list[Action]:
    context.stats.admissions["rejected", reason.value] += 1
    registration = caller.registration
    return context.reject(request, choice, reason, detail, registration=registration, transaction=transaction)


# What is asked for


def call_identifier(fields: dict[str, Any]) -> bytes:
    """Return the callIdentifier (16 octets); endpoints of H.323 version 1 have only the conferenceID."""
    identifier = fields.get("callIdentifier")
    return bytes(identifier["guid"] if identifier else fields["conferenceID"])


def _misused_identifier(context: Context, request: Request, caller: Caller) -> str:
    """Say what is wrong with the callIdentifier of an ARQ: a call has one caller, and begins once."""
    identifier, endpoint = call_identifier(request.value), caller.registration.endpoint_identifier
    if not context.disengaged.is_new(endpoint, identifier):
        return "this call was disengaged"
    renewed = context.state.call(identifier, endpoint)
    if renewed is not None and renewed.answer_call != request.value["answerCall"]:
        return "the other end of its own call"
    holder = context.state.caller_of(identifier)
    if not request.value["answerCall"] and holder is not None and holder.endpoint_identifier != endpoint:
        return "another endpoint's callIdentifier"
    return ""


def _resolve(context: Context, request: Request) -> Destination:
    if request.value["answerCall"]:
        origin = context.state.caller_of(call_identifier(request.value))
        return Destination(origin.destination if origin else "", "", None)
    asked = False
    for name, alias in _asked_for(request):
        asked = True
        room = _room(context, name)
        if room:
            return Destination(name, room, None)
        if isinstance(alias, tuple):
            if alias in context.settings.call_signal_addresses:
                return Destination(name, context.settings.rooms[0].casefold() if context.settings.rooms else "", None)
            callee = context.state.of_signal_address(alias[0], alias)
        else:
            callee = context.state.of_alias(("", name))
        if callee is not None:
            return Destination(name, "", callee)
    raise _Unreachable("calledPartyNotRegistered" if asked else "incompleteAddress")


def _room(context: Context, name: str) -> str:
    """Return the room that a name means, however it is written; empty where it means none."""
    folded = name.casefold()
    if folded.startswith(CONFERENCE_PREFIX):
        return folded.removeprefix(CONFERENCE_PREFIX).strip("/")
    return folded if folded in context.rooms else ""


def _asked_for(request: Request) -> Iterator[tuple[str, TransportAddress | None]]:
    """Yield the names that an ARQ asks for, and the address where a name is one."""
    values = list(request.value.get("destinationInfo", ()))
    address = request.value.get("destCallSignalAddress")
    if address is not None:
        values.append(("transportID", address))
    for kind, value in values:
        if kind == "transportID":
            try:
                where = messages.read_transport_address(value)
            except DecodeError:
                continue
            yield f"{where[0]}:{where[1]}", where
        elif isinstance(value, str):
            yield value, None


def _claims(context: Context, request: Request, caller: Caller) -> _Claims:
    registration = caller.registration
    unclaimed = request.value["conferenceID"].hex()
    if registration.method is Method.SIGNATURE:
        return _signed_claims(context, request, caller)
    authentication = Authentication(verified=True, method=registration.method)
    grant = None
    if registration.method is Method.VOUCHED:
        grant = context.state.grant(registration.grant or "")
        renewal = context.state.call(call_identifier(request.value), registration.endpoint_identifier)
        if grant is None or (not grant.calls_left and renewal is None):
            authentication = Authentication(verified=False, method=Method.VOUCHED, detail="the voucher is used up")
    if grant is not None:
        return _Claims(authentication, grant.call_id, grant.call_type, grant.has_pii, grant)
    return _Claims(authentication, unclaimed, CallType.ROUTINE, has_pii=False)


def _signed_claims(context: Context, request: Request, caller: Caller) -> _Claims:
    registration = caller.registration
    terminal_id = registration.terminal_id or ""
    try:
        credential = read_credential(request.message)
        guardian = context.registry.get(terminal_id)
        if credential is None or guardian is None or registration.session is None:
            raise SecurityError("no credential")
        if credential.claims.terminal_id != terminal_id:
            raise SecurityError("the credential is another guardian's")
        if credential.claims.counter != caller.counter:
            raise SecurityError("the credential's counter is not the message's")
        if credential.claims.bandwidth_bps != request.value["bandWidth"] * BANDWIDTH_UNIT_BPS:
            raise SecurityError("the signed bandwidth_bps is not bandWidth x 100")
        verify_credential(request.pdu, request.message, credential, guardian.public_key, registration.session.challenge)
    except SecurityError as error:
        failed = Authentication(verified=False, method=Method.SIGNATURE, detail=str(error))
        return _Claims(failed, "", CallType.ROUTINE, has_pii=False)
    claims = credential.claims
    proven = Authentication(verified=True, method=Method.SIGNATURE)
    return _Claims(proven, claims.call_id, claims.call_type, claims.has_pii)


def _may_answer(context: Context, request: Request, caller: Caller) -> bool:
    """Say whether a callee may answer: in direct mode it must return the token that our ACF gave the caller."""
    if not request.value["answerCall"] or context.settings.call_model is CallModel.GATEKEEPER_ROUTED:
        return True
    registration = caller.registration
    identifier = call_identifier(request.value)
    if registration.session is None:
        # It can't carry our token, but then it is a call that we admitted towards it.
        origin = context.state.caller_of(identifier)
        return registration.method is Method.UNSIGNED or (origin is not None and origin.callee == registration.key)
    try:
        verify_call_token(
            request.message,
            context.service_key.public,
            call_identifier=identifier,
            callee_endpoint_identifier=registration.endpoint_identifier,
            wall=context.wall(request.now),
        )
    except SecurityError:
        return False
    return True


# The verdict


def _weighed_bps(context: Context, asked_bps: int, claims: _Claims, guardian: Guardian | None) -> int:
    """Return what the gates weigh: of an endpoint that signs no figure, at most what it may have.

    Such endpoints ask for the most that they can, whatever the call (h323plus: 10 Mbit/s, for audio too); the ACF may
    grant less (H.225.0 v7 section 7.11.2).
    """
    if claims.authentication.method is Method.SIGNATURE:
        return asked_bps
    if claims.grant is not None:
        return min(asked_bps, claims.grant.bandwidth_bps)
    per_call_bps = context.settings.limits.per_call_bps
    return min(asked_bps, per_call_bps if guardian is None else min(per_call_bps, guardian.bandwidth_quota_bps))


def _judge(
    context: Context, request: Request, caller: Caller, destination: Destination, transaction: Transaction
) -> list[Action]:
    registration, value = caller.registration, request.value
    claims = _claims(context, request, caller)
    authentication = claims.authentication
    if authentication.verified and not _may_answer(context, request, caller):
        authentication = Authentication(verified=False, method=registration.method, detail="no call token of ours")
    renewed = context.state.call(call_identifier(value), registration.endpoint_identifier)
    replaced = renewed or (claims.grant if claims.grant and claims.grant.calls_left else None)
    guardian = context.registry.get(registration.terminal_id) if registration.terminal_id else None
    live = None if registration.terminal_id is None else context.state.of_guardian(registration.terminal_id) is registration
    asked_bps = value["bandWidth"] * BANDWIDTH_UNIT_BPS
    decision = evaluate(
        AdmissionRequest(
            terminal_id=registration.terminal_id,
            call_id=claims.call_id,
            call_type=claims.call_type,
            has_pii=claims.has_pii,
            bandwidth_bps=_weighed_bps(context, asked_bps, claims, guardian),
            authentication=authentication,
            texts=alias_texts("srcInfo", value["srcInfo"])
            + alias_texts("destinationInfo", value.get("destinationInfo", ()))
            + alias_texts("terminalAlias", registration.aliases)
            + claims.texts,
            room=destination.room or None,
        ),
        guardian,
        context.state.usage(registration.account, destination.room, live_registration=live, without=replaced),
        context.settings.limits,
        context.settings.pii_rules,
    )
    trace_id = call_identifier(value).hex()
    if decision.granted and renewed is None and context.state.call_count >= context.settings.max_calls:
        full = GateResult(Gate.CAPACITY, passed=False, rule="max_calls", detail=f"{context.settings.max_calls} calls")
        reason, gates = RejectReason.CAPACITY_EXCEEDED, (*decision.gates[:-1], full)
        decision = replace(decision, granted=False, reason=reason, preempt_bps=0, gates=gates)
    record = decision.record() | {"requested_bps": asked_bps}
    if decision.reason is not None:
        transaction.record("admission.rejected", trace_id, **record)
        detail = f"{decision.gates[-1].rule} {decision.gates[-1].detail}".strip()
        choice = decision.reason.admission_reject_reason
        return _reject(context, request, caller, transaction, choice, decision.reason, detail)
    if decision.preempt_bps:
        preempt(context, decision.preempt_bps, trace_id, transaction, request.now, spare=renewed)
    transaction.record("admission.granted", trace_id, **record)
    return _grant(context, request, caller, destination, claims, decision, transaction)


def preempt(
    context: Context, need_bps: int, trace_id: str, transaction: Transaction, now: float, *, spare: Call | None = None
) -> None:
    """Disengage ROUTINE calls until an EMERGENCY has its bandwidth, and record for whom each had to go.

    ``spare`` is the call under judgement itself. The gate has seen to it that the others are enough.
    """
    calls = {call.key: call for call in context.state.calls() if call is not spare}
    # The table is in the order of admission, which is all that the choice asks of a start time.
    candidates = (
        PreemptibleCall(key, call.bandwidth_bps, float(order), call.call_type) for order, (key, call) in enumerate(calls.items())
    )
    chosen = choose_preempted(candidates, need_bps)
    if chosen is None:
        raise PolicyError(f"{need_bps} bit/s were to be freed and can't be")
    for one in chosen:
        call = calls[one.call_id]
        transaction.record(
            "admission.preempted",
            trace_id,
            session_id=call.session_id,
            preempted_trace_id=call.trace_id,
            bandwidth_bps=call.bandwidth_bps,
        )
        closing.close(context, call, "preempted", transaction, now, tell=True)


def _grant(
    context: Context,
    request: Request,
    caller: Caller,
    destination: Destination,
    claims: _Claims,
    decision: Decision,
    transaction: Transaction,
) -> list[Action]:
    registration, value, settings = caller.registration, request.value, context.settings
    identifier = call_identifier(value)
    renewed = context.state.call(identifier, registration.endpoint_identifier)
    call = Call(
        session_id=renewed.session_id if renewed else context.randbytes(16).hex(),
        endpoint_identifier=registration.endpoint_identifier,
        account=registration.account,
        terminal_id=registration.terminal_id,
        call_identifier=identifier,
        conference_id=value["conferenceID"],
        call_reference_value=value["callReferenceValue"],
        answer_call=value["answerCall"],
        call_id=claims.call_id,
        call_type=claims.call_type,
        bandwidth_bps=decision.bandwidth_bps,
        destination=destination.name,
        room=destination.room,
        callee=destination.callee.endpoint_identifier if destination.callee else None,
        trace_id=identifier.hex(),
    )
    if claims.grant is not None and renewed is None:
        context.state.put_grant(replace(claims.grant, calls_left=claims.grant.calls_left - 1), transaction)
    context.state.put_call(call, transaction)
    context.start_clocks(call, request.now)
    context.stats.admissions["granted", "NONE"] += 1

    model = settings.call_model
    target = context.call_signal_address(request.source)
    body: dict[str, Any] = {
        "requestSeqNum": request.sequence,
        "bandWidth": decision.bandwidth_bps // BANDWIDTH_UNIT_BPS,
        "irrFrequency": settings.irr_frequency_s,
        "willRespondToIRR": registration.promises_iack,
        "uuiesRequested": messages.NO_UUIES,
    }
    if model is CallModel.DIRECT:
        direct_to = registration if value["answerCall"] else destination.callee
        if direct_to is not None and direct_to.call_signal_address is not None:
            target = direct_to.call_signal_address
        if destination.callee is not None and call.terminal_id is not None:
            body["tokens"] = [_call_token(context, request, call, call.terminal_id)]
    body |= {"callModel": messages.choice(model.value), "destCallSignalAddress": messages.transport_address(target)}
    keep = registration.method is not Method.UNSIGNED
    return context.answer(request, ("admissionConfirm", body), registration=registration, transaction=transaction, keep=keep)


def _call_token(context: Context, request: Request, call: Call, terminal_id: str) -> dict[str, Any]:
    """Make the proof for the callee that this guardian's call was admitted; a caller without a guardian gets none."""
    token = CallToken(
        call_identifier=call.call_identifier,
        caller_terminal_id=terminal_id,
        callee_endpoint_identifier=call.callee or "",
        expires=int(context.wall(request.now)) + context.settings.vouch_lifetime_s,
    )
    return sign_call_token(token, context.service_key)
