"""Discovery: GRQ, GCF, GRJ (H.225.0 section 7.8). Grants nothing and keeps nothing."""

from __future__ import annotations

from typing import Any

from gatekeeperd.core.actions import Action
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, text_aliases, transport_address
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.security import oids
from gatekeeperd.security.tokens import challenge_token

#: How the url-ID of a terminal that can sign begins.
GUARDIAN_PREFIX = "if://guardian/"

#: What a room system may do with its password, the better one first: H.235.1 covers the message, MD5 only names its sender.
PASSWORD_ALGORITHMS = (oids.HMAC_SHA1_96, oids.MD5)


def gatekeeper_request(context: Context, request: Request) -> list[Action]:
    """Answer a GRQ: a guardian gets the challenge that its RRQ must sign."""
    settings = context.settings
    wanted = request.value.get("gatekeeperIdentifier")
    if wanted is not None and wanted != settings.gatekeeper_identifier:
        # H.225.0 section 7.8.1: others on the multicast group may be meant; only who was asked directly says no.
        return [] if request.multicast else context.reject(request, "terminalExcluded", RejectReason.GATEKEEPER_ERROR)
    body: dict[str, Any] = {
        "requestSeqNum": request.sequence,
        "protocolIdentifier": PROTOCOL_IDENTIFIER,
        "gatekeeperIdentifier": settings.gatekeeper_identifier,
        "rasAddress": transport_address(context.ras_address(request.source)),
    }
    aliases = text_aliases(request.value.get("endpointAlias", ()))
    # Every name of that form gets one: who is a guardian is not told to who only asks.
    if any(text.startswith(GUARDIAN_PREFIX) for _, text in aliases):
        body["tokens"] = [challenge_token(context.challenger.make(request.source, request.now))]
    elif settings.passwords:
        offered = request.value.get("algorithmOIDs", ())
        chosen = next((algorithm for algorithm in PASSWORD_ALGORITHMS if algorithm in offered), None)
        if chosen is not None:
            body |= {"authenticationMode": ("pwdHash", None), "algorithmOID": chosen}
    body |= alternates(context)
    return context.answer(request, ("gatekeeperConfirm", body), keep=False, behind=False)


def alternates(context: Context) -> dict[str, Any]:
    """Announce the alternate gatekeepers, as GCF and RCF carry them (H.225.0 section 7.6 AlternateGK)."""
    if not context.settings.alternates:
        return {}
    return {
        "alternateGatekeeper": [
            {
                "rasAddress": transport_address(alternate.ras_address),
                "gatekeeperIdentifier": alternate.gatekeeper_identifier,
                "needToRegister": alternate.need_to_register,
                "priority": alternate.priority,
            }
            for alternate in context.settings.alternates
        ]
    }
