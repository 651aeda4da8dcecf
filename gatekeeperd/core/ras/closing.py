"""How registrations and calls end, whoever ends them: the endpoint, a timer, an operator, a newer registration.

What lives here: the one way to forget a registration or a call, with its record and, where the endpoint has to be
told, its URQ or DRQ. What never does: deciding that it ends.
"""

from __future__ import annotations

from typing import Any

from gatekeeperd.core.ras.asking import Purpose, ask
from gatekeeperd.core.ras.context import Context
from gatekeeperd.core.ras.messages import transport_address
from gatekeeperd.core.ras.model import Call, Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.policy.gates import Method


def unregister(
    context: Context,
    registration: Registration,
    cause: str,
    transaction: Transaction,
    now: float,
    *,
    tell: str | None = None,
    tell_calls: bool = False,
) -> None:
    """Forget an endpoint and close its calls.

    ``tell`` is the ``UnregRequestReason`` of the URQ that tells it, if any; ``tell_calls`` sends a DRQ for each call before.
    """
    ended = context.state.calls_of(registration.endpoint_identifier)
    if tell_calls:
        for call in ended:
            _tell(context, registration, call, transaction, now)
    if tell is not None:
        signal = registration.call_signal_address
        body: dict[str, Any] = {
            "callSignalAddress": [transport_address(signal)] if signal else [],
            "endpointIdentifier": registration.endpoint_identifier,
            "gatekeeperIdentifier": context.settings.gatekeeper_identifier,
            "reason": (tell, None),
        }
        ask(context, registration, ("unregistrationRequest", body), Purpose.TELL, transaction, now)
    context.state.remove_registration(registration, transaction)
    context.forget_endpoint(registration)
    for call in ended:
        close(context, call, cause, transaction, now, tell=False)
    transaction.record(
        "registration.ended",
        registration.trace_id,
        terminal_id=registration.terminal_id,
        endpoint=context.pseudonym(registration.endpoint_identifier),
        cause=cause,
    )


def close(context: Context, call: Call, cause: str, transaction: Transaction, now: float, *, tell: bool) -> None:
    """Forget one endpoint's part in a call, give its bandwidth back, and ``tell`` the endpoint by DRQ where it doesn't know."""
    registration = context.state.registration(call.endpoint_identifier)
    if tell and registration is not None:
        _tell(context, registration, call, transaction, now)
    context.state.remove_call(call, transaction)
    context.timers.cancel(("idle", call.key))
    context.timers.cancel(("longest", call.key))
    transaction.record(
        "call.ended",
        call.trace_id,
        session_id=call.session_id,
        terminal_id=call.terminal_id,
        cause=cause,
        bandwidth_bps=call.bandwidth_bps,
    )
    if registration is not None and registration.method is Method.VOUCHED and not _vouched_still(context, registration):
        unregister(context, registration, "voucher-used-up", transaction, now, tell="securityDenial")


def _vouched_still(context: Context, registration: Registration) -> bool:
    has_calls = bool(context.state.calls_of(registration.endpoint_identifier))
    return has_calls or (registration.grant is not None and context.state.grant(registration.grant) is not None)


def _tell(context: Context, registration: Registration, call: Call, transaction: Transaction, now: float) -> None:
    """Send our DRQ for a call."""
    body: dict[str, Any] = {
        "endpointIdentifier": call.endpoint_identifier,
        "conferenceID": call.conference_id,
        "callReferenceValue": call.call_reference_value,
        "disengageReason": ("forcedDrop", None),
        "callIdentifier": {"guid": call.call_identifier},
        "gatekeeperIdentifier": context.settings.gatekeeper_identifier,
        "answeredCall": call.answer_call,
    }
    ask(context, registration, ("disengageRequest", body), Purpose.TELL, transaction, now)


def end_grant(context: Context, session_id: str, cause: str, transaction: Transaction, now: float) -> None:
    """Forget a voucher, and a registration that rests on it alone. No harm if it is gone."""
    grant = context.state.grant(session_id)
    if grant is None:
        return
    context.state.remove_grant(grant, transaction)
    context.timers.cancel(("grant", session_id))
    transaction.record("voucher.ended", grant.trace_id, session_id=session_id, terminal_id=grant.terminal_id, cause=cause)
    item = context.state.of_guardian(grant.terminal_id)
    if item is not None and item.grant == session_id and not context.state.calls_of(item.endpoint_identifier):
        unregister(context, item, "voucher-ended", transaction, now, tell="securityDenial")
