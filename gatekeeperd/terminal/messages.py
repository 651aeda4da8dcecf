"""The PDUs of a guardian terminal, as values: what it sends, and how it reads a refusal.

What lives here: pure functions from facts to ``(choice, fields)``. What never does: state, tokens, octets.
Sources: H.225.0 v7 section 7 (each message's own clause); units of bandWidth are 100 bit/s, both directions summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatekeeperd import __version__
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, Message, transport_address
from gatekeeperd.security.oids import REJECT_REASON
from gatekeeperd.terminal.calls import Call
from gatekeeperd.terminal.settings import EndpointSettings

BANDWIDTH_UNIT_BPS = 100

# No manufacturer code was ever assigned to us: country 181 (USA), extension and manufacturer 0, as others without one.
_VENDOR: dict[str, Any] = {
    "vendor": {"t35CountryCode": 181, "t35Extension": 0, "manufacturerCode": 0},
    "productId": b"Guardian Council terminal",
    "versionId": __version__.encode(),
}
_TERMINAL: dict[str, Any] = {"vendor": _VENDOR, "terminal": {}, "mc": False, "undefinedNode": False}


def aliases(settings: EndpointSettings) -> list[tuple[str, Any]]:
    """Return who we are: the terminal_id as url-ID first, then the h323-IDs."""
    return [("url-ID", settings.terminal_id), *(("h323-ID", alias) for alias in settings.aliases)]


def destination(alias: str) -> tuple[str, Any]:
    """Return the alias a person typed as the ``AliasAddress`` it looks like."""
    if alias and all(digit in "0123456789*#," for digit in alias):
        return ("dialledDigits", alias)
    if ":" in alias:
        return ("url-ID", alias)
    return ("email-ID", alias) if "@" in alias else ("h323-ID", alias)


def gatekeeper_request(settings: EndpointSettings, sequence: int, gatekeeper_identifier: str | None) -> Message:
    """GRQ (section 7.8.1): ask who serves this terminal."""
    fields: dict[str, Any] = {
        "requestSeqNum": sequence,
        "protocolIdentifier": PROTOCOL_IDENTIFIER,
        "rasAddress": transport_address(settings.ras_address),
        "endpointType": _TERMINAL,
        "endpointAlias": aliases(settings),
        "supportsAltGK": None,
    }
    if gatekeeper_identifier is not None:
        fields["gatekeeperIdentifier"] = gatekeeper_identifier
    return "gatekeeperRequest", fields


def registration_request(settings: EndpointSettings, sequence: int, gatekeeper_identifier: str) -> Message:
    """Full RRQ (section 7.9.1)."""
    return "registrationRequest", {
        "requestSeqNum": sequence,
        "protocolIdentifier": PROTOCOL_IDENTIFIER,
        "discoveryComplete": True,
        "callSignalAddress": [transport_address(settings.call_signal_address)],
        "rasAddress": [transport_address(settings.ras_address)],
        "terminalType": _TERMINAL,
        "terminalAlias": aliases(settings),
        "gatekeeperIdentifier": gatekeeper_identifier,
        "endpointVendor": _VENDOR,
        "timeToLive": settings.time_to_live_s,
        "keepAlive": False,
        "willSupplyUUIEs": False,
        "maintainConnection": False,
        "supportsAltGK": None,
    }


def keep_alive(settings: EndpointSettings, sequence: int, gatekeeper_identifier: str, endpoint_identifier: str) -> Message:
    """Lightweight RRQ (section 7.9.1, keepAlive)."""
    return "registrationRequest", {
        "requestSeqNum": sequence,
        "protocolIdentifier": PROTOCOL_IDENTIFIER,
        "discoveryComplete": True,
        "callSignalAddress": [],
        "rasAddress": [transport_address(settings.ras_address)],
        "terminalType": {"mc": False, "undefinedNode": False},
        "gatekeeperIdentifier": gatekeeper_identifier,
        "endpointVendor": {"vendor": _VENDOR["vendor"]},
        "timeToLive": settings.time_to_live_s,
        "keepAlive": True,
        "endpointIdentifier": endpoint_identifier,
        "willSupplyUUIEs": False,
        "maintainConnection": False,
    }


def unregistration_request(
    settings: EndpointSettings, sequence: int, gatekeeper_identifier: str, endpoint_identifier: str
) -> Message:
    """URQ (section 7.10.1): this terminal leaves."""
    return "unregistrationRequest", {
        "requestSeqNum": sequence,
        "callSignalAddress": [transport_address(settings.call_signal_address)],
        "endpointIdentifier": endpoint_identifier,
        "gatekeeperIdentifier": gatekeeper_identifier,
    }


def admission_request(
    settings: EndpointSettings, sequence: int, gatekeeper_identifier: str, endpoint_identifier: str, call: Call
) -> Message:
    """ARQ (section 7.11.1): ask to place ``call``."""
    return "admissionRequest", {
        "requestSeqNum": sequence,
        "callType": ("pointToPoint", None),
        "endpointIdentifier": endpoint_identifier,
        "srcInfo": aliases(settings),
        "srcCallSignalAddress": transport_address(settings.call_signal_address),
        "bandWidth": call.bandwidth_bps // BANDWIDTH_UNIT_BPS,
        "callReferenceValue": call.reference,
        "conferenceID": call.conference_id,
        "activeMC": False,
        "answerCall": False,
        "canMapAlias": True,
        "callIdentifier": {"guid": call.guid},
        "gatekeeperIdentifier": gatekeeper_identifier,
        "willSupplyUUIEs": False,
        "destinationInfo": [destination(call.destination)],
    }


def bandwidth_request(
    sequence: int, gatekeeper_identifier: str, endpoint_identifier: str, call: Call, bandwidth_bps: int
) -> Message:
    """BRQ (section 7.12.1): ``call`` wants another bandwidth."""
    return "bandwidthRequest", {
        "requestSeqNum": sequence,
        "endpointIdentifier": endpoint_identifier,
        "conferenceID": call.conference_id,
        "callReferenceValue": call.reference,
        "bandWidth": bandwidth_bps // BANDWIDTH_UNIT_BPS,
        "callIdentifier": {"guid": call.guid},
        "gatekeeperIdentifier": gatekeeper_identifier,
        "answeredCall": False,
    }


def disengage_request(sequence: int, gatekeeper_identifier: str, endpoint_identifier: str, call: Call) -> Message:
    """DRQ (section 7.14.1): ``call`` is over."""
    return "disengageRequest", {
        "requestSeqNum": sequence,
        "endpointIdentifier": endpoint_identifier,
        "conferenceID": call.conference_id,
        "callReferenceValue": call.reference,
        "disengageReason": ("normalDrop", None),
        "callIdentifier": {"guid": call.guid},
        "gatekeeperIdentifier": gatekeeper_identifier,
        "answeredCall": False,
    }


def information(
    settings: EndpointSettings, sequence: int, endpoint_identifier: str, calls: Sequence[Call], *, solicited: bool, respond: bool
) -> Message:
    """IRR (section 7.15.2) about ``calls``. ``respond``: the gatekeeper promised an IACK (willRespondToIRR)."""
    fields: dict[str, Any] = {
        "requestSeqNum": sequence,
        "endpointType": _TERMINAL,
        "endpointIdentifier": endpoint_identifier,
        "rasAddress": transport_address(settings.ras_address),
        "callSignalAddress": [transport_address(settings.call_signal_address)],
        "endpointAlias": aliases(settings),
        "needResponse": respond,
        "unsolicited": not solicited,
    }
    if calls:
        fields["perCallInfo"] = [_per_call(call) for call in calls]
    return "infoRequestResponse", fields


def _per_call(call: Call) -> dict[str, Any]:
    return {
        "callReferenceValue": call.reference,
        "conferenceID": call.conference_id,
        "originator": True,
        "h245": {},
        "callSignalling": {},
        "callType": ("pointToPoint", None),
        "bandWidth": call.bandwidth_bps // BANDWIDTH_UNIT_BPS,
        "callModel": (call.call_model, None),
        "callIdentifier": {"guid": call.guid},
    }


def refusal(fields: dict[str, Any], choice: str = "rejectReason") -> tuple[str, str]:
    """Return reason and detail of a reject: the council's own name where one is given, else the Recommendation's."""
    extra = fields.get("nonStandardData")
    if extra is not None and extra["nonStandardIdentifier"] == ("object", REJECT_REASON):
        name, _, detail = extra["data"].decode(errors="replace").partition("\n")
        return name, detail
    return fields[choice][0], ""
