"""What endpoints tell of themselves: IRR, RAI, SCI, and answers to our own requests (H.225.0 sections 7.15, 7.17, 7.18)."""

from __future__ import annotations

from dataclasses import replace

from gatekeeperd.core.actions import Action
from gatekeeperd.core.ras import calls, closing
from gatekeeperd.core.ras.admission import call_identifier
from gatekeeperd.core.ras.asking import Purpose, inquired, told
from gatekeeperd.core.ras.authentication import Caller, Refused, recognise
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, choice
from gatekeeperd.core.ras.model import Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.policy.gates import Method


def info_request_response(context: Context, request: Request) -> list[Action]:
    """Take an IRR, solicited or not: the endpoint lives, and these are its calls."""
    transaction = Transaction()
    wants_answer = bool(request.value.get("needResponse"))
    try:
        caller = recognise(context, request, transaction)
    except Refused as refusal:
        if not wants_answer:
            context.stats.dropped["unauthenticated"] += 1
            return []
        reason = "securityDenial" if refusal.known else "notRegistered"
        nak = ("infoRequestNak", {"requestSeqNum": request.sequence, "nakReason": choice(reason)})
        return context.answer(request, nak, keep=False)
    registration = caller.registration
    listed = {call_identifier(info) for info in request.value.get("perCallInfo", ())}
    actions: list[Action] = []
    if not caller.stale:
        _note_alive(context, registration, listed, request.now)
        actions += _solicited(context, request, listed, transaction)
    if wants_answer:
        ack = ("infoRequestAck", {"requestSeqNum": request.sequence})
        return actions + context.answer(request, ack, registration=registration, transaction=transaction)
    return actions + context.commit(transaction, request.now)


def _note_alive(context: Context, registration: Registration, listed: set[bytes], now: float) -> None:
    context.timers.set(("registration", registration.endpoint_identifier), now + registration.time_to_live_s)
    for call in context.state.calls_of(registration.endpoint_identifier):
        if call.call_identifier in listed:
            context.timers.set(("idle", call.key), now + 2 * context.settings.irr_frequency_s)


def _solicited(context: Context, request: Request, listed: set[bytes], transaction: Transaction) -> list[Action]:
    """Draw the conclusion for which we asked, if this answers an IRQ of ours."""
    asked = inquired(context, request)
    if asked is None:
        return []
    if asked.purpose is Purpose.CONFIRM:
        return calls.confirmed(context, asked, listed, request.now)
    call = context.state.call_by_key(asked.call)
    if asked.purpose is Purpose.CALL and call is not None and call.call_identifier not in listed:
        closing.close(context, call, "endpoint-does-not-know-it", transaction, request.now, tell=False)
    return []


def own_request_answered(context: Context, request: Request) -> list[Action]:
    """Take UCF, URJ, DCF, DRJ or a stray confirm: it can only end the repetitions of a request of ours."""
    if not told(context, request):
        context.stats.dropped["unexpected"] += 1
    return []


def resources_available(context: Context, request: Request) -> list[Action]:
    """Answer a RAI with a RAC and remember whether the gateway has resources left."""
    transaction = Transaction()
    caller = _caller(context, request, transaction)
    if caller is None:
        return context.commit(transaction, request.now)
    registration = caller.registration
    low = bool(request.value["almostOutOfResources"])
    if not caller.stale and registration.almost_out_of_resources != low:
        registration = replace(registration, almost_out_of_resources=low)
        context.state.put_registration(registration, transaction)
        transaction.record(
            "resources.changed", registration.trace_id, terminal_id=registration.terminal_id, almost_out_of_resources=low
        )
    body = {"requestSeqNum": request.sequence, "protocolIdentifier": PROTOCOL_IDENTIFIER}
    keep = registration.method is not Method.UNSIGNED
    return context.answer(
        request, ("resourcesAvailableConfirm", body), registration=registration, transaction=transaction, keep=keep
    )


def service_control(context: Context, request: Request) -> list[Action]:
    """Answer an SCI: we offer no service sessions, and say so rather than leave the endpoint waiting."""
    transaction = Transaction()
    caller = _caller(context, request, transaction)
    if caller is None:
        return context.commit(transaction, request.now)
    body = {"requestSeqNum": request.sequence, "result": choice("notAvailable")}
    return context.answer(request, ("serviceControlResponse", body), registration=caller.registration, transaction=transaction)


def _caller(context: Context, request: Request, transaction: Transaction) -> Caller | None:
    """Return the caller; neither RAC nor SCR can say no, so who proves nothing gets no answer."""
    try:
        return recognise(context, request, transaction)
    except Refused as refusal:
        context.stats.dropped["unauthenticated"] += 1
        context.note_stranger(
            transaction, "request.rejected", request.source, request.now, request=request.name, reason=refusal.reason.value
        )
        return None
