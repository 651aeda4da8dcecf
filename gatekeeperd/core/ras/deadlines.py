"""What each timer means: registrations, calls and vouchers that run out, requests of ours that nobody answers.

What lives here: one function for each kind of deadline. What never does: the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatekeeperd.core.actions import Action
from gatekeeperd.core.ras import asking, calls, closing
from gatekeeperd.core.ras.asking import MAX_ASKED, REQUEST_TIMEOUT_S, Asked, Purpose
from gatekeeperd.core.ras.context import Context
from gatekeeperd.core.ras.model import Call, Registration
from gatekeeperd.core.ras.state import Transaction


def _registration(context: Context, identifier: str, now: float) -> list[Action]:
    """Ask once more (IRQ) before a timeToLive that ran out unregisters."""
    item = context.state.registration(identifier)
    return [] if item is None else _inquire(context, item, Purpose.EXPIRY, None, now)


def _idle(context: Context, key: str, now: float) -> list[Action]:
    """Ask for a call of which its endpoint has not told for two reporting intervals."""
    call = context.state.call_by_key(key)
    item = context.state.registration(call.endpoint_identifier) if call else None
    return [] if item is None else _inquire(context, item, Purpose.CALL, call, now)


def _inquire(context: Context, item: Registration, purpose: Purpose, call: Call | None, now: float) -> list[Action]:
    if len(context.asked) >= MAX_ASKED:
        timer = ("idle", call.key) if call else ("registration", item.key)
        context.timers.set(timer, now + REQUEST_TIMEOUT_S)
        return []
    transaction = Transaction()
    body: dict[str, Any] = {"callReferenceValue": call.call_reference_value if call else 0}
    if call is not None:
        body["callIdentifier"] = {"guid": call.call_identifier}
    asking.ask(context, item, ("infoRequest", body), purpose, transaction, now, call=call.key if call else "")
    return context.commit(transaction, now)


def _longest(context: Context, key: str, now: float) -> list[Action]:
    """End a call that has lasted as long as any may."""
    transaction = Transaction()
    call = context.state.call_by_key(key)
    if call is not None:
        closing.close(context, call, "longest-call", transaction, now, tell=True)
    return context.commit(transaction, now)


def _grant(context: Context, session_id: str, now: float) -> list[Action]:
    """End a voucher whose time is over, and a registration that rests on it alone."""
    transaction = Transaction()
    closing.end_grant(context, session_id, "expired", transaction, now)
    return context.commit(transaction, now)


def _asked(context: Context, sequence: str, now: float) -> list[Action]:
    """Repeat a request of ours that was not answered, or draw the conclusion from the silence."""
    number = int(sequence)
    asked = context.asked.get(number)
    if asked is None:
        return []
    again = asking.repeat(context, number, now)
    if again is not None:
        # Behind what is being committed: the first sending may still wait there.
        return context.behind([again], now)
    actions = _silence(context, asked, now)
    # Last, so that a fault in between leaves it to be concluded again.
    context.asked.pop(number, None)
    return actions


def _silence(context: Context, asked: Asked, now: float) -> list[Action]:
    transaction = Transaction()
    match asked.purpose:
        case Purpose.CONFIRM:
            return calls.confirmed(context, asked, set(), now)
        case Purpose.EXPIRY if ("registration", asked.endpoint_identifier) not in context.timers:
            item = context.state.registration(asked.endpoint_identifier)
            if item is not None:
                closing.unregister(context, item, "expired", transaction, now, tell="ttlExpired")
        case Purpose.CALL if ("idle", asked.call) not in context.timers:
            call = context.state.call_by_key(asked.call)
            if call is not None:
                closing.close(context, call, "endpoint-silent", transaction, now, tell=False)
    return context.commit(transaction, now)


def _suppressed(context: Context, _name: str, now: float) -> list[Action]:
    """Record how many records of strangers' misdeeds were not written one by one."""
    transaction = Transaction()
    for event, count in sorted(context.suppressed.items()):
        transaction.record("ras.suppressed", context.new_trace(), suppressed_event=event, count=count)
    context.suppressed.clear()
    return context.commit(transaction, now)


def _slow(context: Context, _name: str, now: float) -> list[Action]:
    """Tell endpoints whose answers wait for their commits."""
    return context.announce_slow(now)


#: The kinds of timer keys, and what is done when one comes due.
DUE: Mapping[str, Callable[[Context, str, float], list[Action]]] = {
    "registration": _registration,
    "idle": _idle,
    "longest": _longest,
    "grant": _grant,
    "asked": _asked,
    "suppressed": _suppressed,
    "slow": _slow,
}
