"""Our own requests to endpoints: URQ, DRQ and IRQ, repeated until they are answered.

What lives here: asking, repeating, and who may settle what we asked. What never does: the conclusion that is drawn from
an answer or from silence (``deadlines.py`` and ``information.py`` draw it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from gatekeeperd.core.actions import Send, TransportAddress
from gatekeeperd.core.ras.messages import Message
from gatekeeperd.core.ras.model import Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.errors import SecurityError
from gatekeeperd.security import session as sessions
from gatekeeperd.security.session import Direction, Session

if TYPE_CHECKING:
    from gatekeeperd.core.ras.context import Context, Request

#: H.225.0 v7 table 19 recommends 3 s and two repetitions for most requests.
REQUEST_TIMEOUT_S = 3.0
REQUEST_TRIES = 3

#: Requests of ours at one time: requestSeqNum has 16 bits, and each of them has to be found again.
MAX_ASKED = 60_000


class Purpose(Enum):
    """Why we asked an endpoint something, and so what its silence means."""

    #: URQ or DRQ of ours: repeated until confirmed, silence means nothing.
    TELL = auto()
    #: IRQ at the end of a timeToLive: silence unregisters.
    EXPIRY = auto()
    #: IRQ for one call: silence, or an IRR without it, closes the call.
    CALL = auto()
    #: IRQ before a URQ or DRQ counts that carries no proof of its own.
    CONFIRM = auto()


#: What an IRR may settle; UCF, DCF and the like settle TELL alone.
INQUIRIES = frozenset({Purpose.EXPIRY, Purpose.CALL, Purpose.CONFIRM})


@dataclass(slots=True)
class Asked:
    """One request of ours that waits for its answer. ``session``: what an answer must prove itself by, if anything."""

    data: bytes
    to: TransportAddress
    purpose: Purpose
    endpoint_identifier: str
    session: Session | None
    #: Key of the call that it is about, empty where it is about the endpoint.
    call: str = ""
    #: What waits for the outcome (``Purpose.CONFIRM``).
    request: Request | None = None
    tries: int = 1


def ask(
    context: Context,
    registration: Registration,
    message: Message,
    purpose: Purpose,
    transaction: Transaction,
    now: float,
    *,
    call: str = "",
    request: Request | None = None,
) -> None:
    """Send a request of ours after the commit at hand, and repeat it until it is answered or its tries are used up."""
    sequence = context.next_sequence()
    name, body = message
    data = context.encode((name, {"requestSeqNum": sequence} | body), registration, now)
    transaction.sends.append(Send(data, registration.source))
    if sequence in context.asked:
        # Only when tens of thousands wait at once: this one is told once, and not repeated.
        return
    context.asked[sequence] = Asked(
        data, registration.source, purpose, registration.endpoint_identifier, registration.session, call, request
    )
    context.asked_now.append(sequence)
    context.timers.set(("asked", str(sequence)), now + REQUEST_TIMEOUT_S)


def repeat(context: Context, sequence: int, now: float) -> Send | None:
    """Return what to send again, ``None`` when the tries are used up."""
    asked = context.asked[sequence]
    if asked.tries >= REQUEST_TRIES:
        return None
    asked.tries += 1
    context.timers.set(("asked", str(sequence)), now + REQUEST_TIMEOUT_S)
    return Send(asked.data, asked.to)


def told(context: Context, request: Request) -> bool:
    """Settle a URQ or DRQ of ours by its answer: from whom we told, with its MAC where it had a session."""
    asked = context.asked.get(request.sequence)
    if asked is None or asked.purpose is not Purpose.TELL or asked.to != request.source:
        return False
    if asked.session is not None:
        try:
            sessions.check(request.pdu, request.message, asked.session, Direction.TO_GATEKEEPER)
        except SecurityError:
            return False
    _settle(context, request.sequence)
    return True


def inquired(context: Context, request: Request) -> Asked | None:
    """Take the IRQ of ours that this IRR answers, whose sender was recognised before."""
    asked = context.asked.get(request.sequence)
    if asked is None or asked.purpose not in INQUIRIES or asked.to != request.source:
        return None
    _settle(context, request.sequence)
    return asked


def _settle(context: Context, sequence: int) -> None:
    del context.asked[sequence]
    context.timers.cancel(("asked", str(sequence)))
