"""During and after a call: BRQ, DRQ and URQ of endpoints (H.225.0 sections 7.10, 7.12 and 7.13)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gatekeeperd.core.actions import Action
from gatekeeperd.core.ras import closing
from gatekeeperd.core.ras.admission import BANDWIDTH_UNIT_BPS, call_identifier
from gatekeeperd.core.ras.asking import Asked, Purpose, ask
from gatekeeperd.core.ras.authentication import Caller, Refused, recognise
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.model import Call
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.policy.gates import Method, fairness
from gatekeeperd.policy.reasons import RejectReason

#: What a request that proves nothing is refused with, per kind: first for an unknown endpoint, then for a bad proof.
_REFUSALS = {
    "unregistrationRequest": ("notCurrentlyRegistered", "securityDenial"),
    "bandwidthRequest": ("notBound", "securityDenial"),
    "disengageRequest": ("notRegistered", "securityDenial"),
}


def _recognise(context: Context, request: Request, transaction: Transaction) -> Caller | list[Action]:
    """Return the caller, or the refusal to send."""
    unknown, unproven = _REFUSALS[request.name]
    extra = {"allowedBandWidth": 0} if request.name == "bandwidthRequest" else {}
    try:
        caller = recognise(context, request, transaction)
    except Refused as refusal:
        refused = Transaction()
        payload = {"request": request.name, "reason": refusal.reason.value, "detail": refusal.detail}
        context.note_stranger(refused, "request.rejected", request.source, request.now, **payload)
        return context.reject(request, unproven if refusal.known else unknown, refusal.reason, transaction=refused, fields=extra)
    if caller.stale:
        reason, registration = RejectReason.INVALID_SIGNATURE, caller.registration
        return context.reject(request, "securityDenial", reason, registration=registration, transaction=transaction, fields=extra)
    return caller


def bandwidth_request(context: Context, request: Request) -> list[Action]:
    """Answer a BRQ: the fairness gate weighs the new bandwidth in place of the old."""
    transaction = Transaction()
    caller = _recognise(context, request, transaction)
    if not isinstance(caller, Caller):
        return caller
    registration, limits = caller.registration, context.settings.limits
    call = context.state.call(call_identifier(request.value), registration.endpoint_identifier)
    if call is None:
        return context.reject(
            request,
            "notBound",
            RejectReason.NOT_REGISTERED,
            registration=registration,
            transaction=transaction,
            fields={"allowedBandWidth": 0},
        )
    wanted_bps = max(request.value["bandWidth"] * BANDWIDTH_UNIT_BPS, limits.floor_bps)
    if registration.method is Method.VOUCHED:
        # The guardian signed a figure, and the endpoint can't raise that by itself; a BCF may grant less (section 7.12.2).
        grant = context.state.grant(registration.grant or "")
        wanted_bps = min(wanted_bps, max(call.bandwidth_bps, grant.bandwidth_bps if grant else 0))
    usage = context.state.usage(call.account, call.room, live_registration=True, without=call)
    guardian = context.registry.get(call.terminal_id) if call.terminal_id else None
    # Only an admission may pre-empt: a call that grows takes what is free.
    verdict = fairness(call.call_type, wanted_bps, guardian, replace(usage, preemptible_bps=0), limits)
    payload = {
        "session_id": call.session_id,
        "terminal_id": call.terminal_id,
        "from_bps": call.bandwidth_bps,
        "to_bps": wanted_bps,
    }
    if not verdict.passed:
        transaction.record("bandwidth.rejected", call.trace_id, **payload, rule=verdict.rule, detail=verdict.detail)
        return context.reject(
            request,
            "insufficientResources",
            RejectReason.BANDWIDTH_EXCEEDED,
            f"{verdict.rule} {verdict.detail}",
            registration=registration,
            transaction=transaction,
            fields={"allowedBandWidth": call.bandwidth_bps // BANDWIDTH_UNIT_BPS},
        )
    context.state.put_call(replace(call, bandwidth_bps=wanted_bps), transaction)
    transaction.record("bandwidth.changed", call.trace_id, **payload)
    body = {"requestSeqNum": request.sequence, "bandWidth": wanted_bps // BANDWIDTH_UNIT_BPS}
    return context.answer(request, ("bandwidthConfirm", body), registration=registration, transaction=transaction)


def disengage_request(context: Context, request: Request) -> list[Action]:
    """Answer a DRQ: the call is over for this endpoint."""
    transaction = Transaction()
    caller = _recognise(context, request, transaction)
    if not isinstance(caller, Caller):
        return caller
    call = context.state.call(call_identifier(request.value), caller.registration.endpoint_identifier)
    if call is not None and caller.registration.method is Method.VOUCHED:
        return _confirm_first(context, request, caller, transaction, call)
    return _disengage(context, request, caller.registration.endpoint_identifier, call, transaction)


def _disengage(
    context: Context, request: Request, endpoint_identifier: str, call: Call | None, transaction: Transaction
) -> list[Action]:
    registration = context.state.registration(endpoint_identifier)
    if registration is not None:
        context.disengaged.accept(endpoint_identifier, call_identifier(request.value), request.now)
    if call is not None:
        closing.close(context, call, "disengaged", transaction, request.now, tell=False)
    # A DRQ for a call that is gone is confirmed too: the endpoint and we agree that it is over.
    body = {"requestSeqNum": request.sequence}
    keep = registration is None or registration.method is not Method.UNSIGNED
    return context.answer(request, ("disengageConfirm", body), registration=registration, transaction=transaction, keep=keep)


def unregistration_request(context: Context, request: Request) -> list[Action]:
    """Answer a URQ. A registration ends whole: an alias alone can't be taken off it."""
    transaction = Transaction()
    caller = _recognise(context, request, transaction)
    if not isinstance(caller, Caller):
        return caller
    if caller.registration.method is Method.VOUCHED:
        return _confirm_first(context, request, caller, transaction, None)
    return _unregister(context, request, caller.registration.endpoint_identifier, transaction)


def _unregister(context: Context, request: Request, endpoint_identifier: str, transaction: Transaction) -> list[Action]:
    registration = context.state.registration(endpoint_identifier)
    if registration is None:
        return context.reject(request, "notCurrentlyRegistered", RejectReason.NOT_REGISTERED)
    message = ("unregistrationConfirm", {"requestSeqNum": request.sequence})
    # Encoded first, because the session that protects it ends here.
    data = context.encode(message, registration, request.now)
    closing.unregister(context, registration, "unregistered", transaction, request.now)
    return context.answer_octets(request, message[0], data, transaction=transaction)


# Endpoints that can't prove a message: ask the address that registered before believing it


def _confirm_first(
    context: Context, request: Request, caller: Caller, transaction: Transaction, call: Call | None
) -> list[Action]:
    """Ask by IRQ whether the call (or, for a URQ, any call) still goes on; a forged DRQ or URQ ends nothing."""
    registration = caller.registration
    waiting = (asked for asked in context.asked.values() if asked.endpoint_identifier == registration.endpoint_identifier)
    if any(asked.purpose is Purpose.CONFIRM and asked.request and asked.request.pdu == request.pdu for asked in waiting):
        return [context.in_progress(request, registration)]
    body: dict[str, Any] = {"callReferenceValue": call.call_reference_value if call else 0}
    if call is not None:
        body |= {"callIdentifier": {"guid": call.call_identifier}}
    key = call.key if call else ""
    ask(context, registration, ("infoRequest", body), Purpose.CONFIRM, transaction, request.now, call=key, request=request)
    return [*context.commit(transaction, request.now), context.in_progress(request, registration)]


def confirmed(context: Context, asked: Asked, still_there: set[bytes], now: float) -> list[Action]:
    """Carry out or refuse what waited for an IRQ. ``still_there``: callIdentifiers that the endpoint says go on."""
    request = asked.request
    if request is None:
        return []
    request = replace(request, now=now)
    transaction = Transaction()
    registration = context.state.registration(asked.endpoint_identifier)
    if request.name == "disengageRequest":
        call = context.state.call_by_key(asked.call)
        if call is not None and call.call_identifier in still_there:
            return context.reject(request, "requestToDropOther", RejectReason.INVALID_SIGNATURE, registration=registration)
        return _disengage(context, request, asked.endpoint_identifier, call, transaction)
    if any(call.call_identifier in still_there for call in context.state.calls_of(asked.endpoint_identifier)):
        return context.reject(request, "callInProgress", RejectReason.INVALID_SIGNATURE, registration=registration)
    return _unregister(context, request, asked.endpoint_identifier, transaction)
