"""Location: LRQ, LCF, LRJ (H.225.0 section 7.14). Tells neighbours and registered endpoints where an alias is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gatekeeperd.core.actions import Action, TransportAddress
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.messages import read_transport_address, text_aliases, transport_address
from gatekeeperd.core.settings import CallModel
from gatekeeperd.errors import DecodeError
from gatekeeperd.policy.reasons import RejectReason


def location_request(context: Context, request: Request) -> list[Action]:
    """Answer an LRQ of a neighbour or of an endpoint; strangers are not told who is registered here."""
    reply_to = _reply_address(request)
    if reply_to is None or not _may_ask(context, request):
        # To a stranger's replyAddress nothing is sent at all: we are nobody's reflector.
        return _refuse(context, request, "requestDenied", RejectReason.NOT_REGISTERED)
    request = replace(request, source=reply_to)
    where = _locate(context, request)
    if where is None:
        return _refuse(context, request, "notRegistered", RejectReason.GATEKEEPER_ERROR)
    body: dict[str, Any] = {
        "requestSeqNum": request.sequence,
        "callSignalAddress": transport_address(where),
        "rasAddress": transport_address(context.ras_address(request.source)),
    }
    return context.answer(request, ("locationConfirm", body), keep=False)


def _refuse(context: Context, request: Request, choice: str, reason: RejectReason) -> list[Action]:
    """Refuse; on the multicast group who can't tell keeps silent instead (H.225.0 section 7.14)."""
    return [] if request.multicast else context.reject(request, choice, reason)


def _reply_address(request: Request) -> TransportAddress | None:
    """Return where the answer goes, if that is the host that asked: its port may be another."""
    try:
        address = read_transport_address(request.value["replyAddress"])
    except DecodeError:
        return None
    return address if address[0] == request.source[0] else None


def _may_ask(context: Context, request: Request) -> bool:
    if context.settings.allow_unsigned or request.source[0] in context.settings.neighbours:
        return True
    registration = context.state.registration(request.value.get("endpointIdentifier") or "")
    return registration is not None and registration.source == request.source


def _locate(context: Context, request: Request) -> TransportAddress | None:
    rooms = {room.casefold() for room in context.settings.rooms}
    for alias in text_aliases(request.value["destinationInfo"]):
        if alias[1].casefold() in rooms:
            return context.call_signal_address(request.source)
        registration = context.state.of_alias(alias)
        if registration is not None:
            if context.settings.call_model is CallModel.DIRECT:
                return registration.call_signal_address
            return context.call_signal_address(request.source)
    return None
