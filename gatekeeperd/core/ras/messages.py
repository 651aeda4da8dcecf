"""The shapes of RAS answers and the small translations between ASN.1 values and ours.

What lives here: pure functions from facts to message values. What never does: state, keys, decisions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, TypeAlias

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.model import Alias
from gatekeeperd.errors import DecodeError
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.security import oids

#: A decoded RAS message: the choice name of ``RasMessage`` and its fields.
Message: TypeAlias = tuple[str, dict[str, Any]]

#: itu-t(0) recommendation(0) h(8) 2250 version(0) 7.
PROTOCOL_IDENTIFIER = (0, 0, 8, 2250, 0, 7)

#: What we ask to see of the call signalling in direct mode: nothing.
NO_UUIES = dict.fromkeys(
    (
        "setup",
        "callProceeding",
        "connect",
        "alerting",
        "information",
        "releaseComplete",
        "facility",
        "progress",
        "empty",
        "status",
        "statusInquiry",
        "setupAcknowledge",
        "notify",
    ),
    False,
)

_TEXT_ALIASES = frozenset({"dialledDigits", "h323-ID", "url-ID", "email-ID"})

#: Requests and the two messages that answer each (H.225.0 section 7).
CONFIRM = {
    "gatekeeperRequest": "gatekeeperConfirm",
    "registrationRequest": "registrationConfirm",
    "unregistrationRequest": "unregistrationConfirm",
    "admissionRequest": "admissionConfirm",
    "bandwidthRequest": "bandwidthConfirm",
    "disengageRequest": "disengageConfirm",
    "locationRequest": "locationConfirm",
    "infoRequestResponse": "infoRequestAck",
    "resourcesAvailableIndicate": "resourcesAvailableConfirm",
    "serviceControlIndication": "serviceControlResponse",
}
REJECT = {
    "gatekeeperRequest": "gatekeeperReject",
    "registrationRequest": "registrationReject",
    "unregistrationRequest": "unregistrationReject",
    "admissionRequest": "admissionReject",
    "bandwidthRequest": "bandwidthReject",
    "disengageRequest": "disengageReject",
    "locationRequest": "locationReject",
}


def transport_address(address: TransportAddress) -> tuple[str, dict[str, Any]]:
    """Write an H.225.0 ``TransportAddress``: ``ipAddress`` or ``ip6Address``."""
    host, port = address
    if ":" in host:
        return "ip6Address", {"ip": ipaddress.IPv6Address(host).packed, "port": port}
    return "ipAddress", {"ip": bytes(map(int, host.split("."))), "port": port}


def read_transport_address(value: tuple[str, Any]) -> TransportAddress:
    """Read an H.225.0 ``TransportAddress``.

    Raises:
        DecodeError: it is of a kind that we can't send to (IPX, NetBIOS, NSAP, a source route).

    """
    kind, body = value
    if kind == "ipAddress":
        return "%d.%d.%d.%d" % tuple(body["ip"]), body["port"]
    if kind == "ip6Address":
        return str(ipaddress.IPv6Address(body["ip"])), body["port"]
    raise DecodeError(f"a {kind} can't be reached from here")


def first_address(values: Iterable[tuple[str, Any]]) -> TransportAddress | None:
    """Return the first address that can be reached over IP, ``None`` if there is none."""
    for value in values:
        if value[0] in {"ipAddress", "ip6Address"}:
            return read_transport_address(value)
    return None


def text_aliases(values: Iterable[tuple[str, Any]]) -> tuple[Alias, ...]:
    """Return the aliases that are text; a transportID names an address and a partyNumber nobody that we know."""
    return tuple((kind, value) for kind, value in values if kind in _TEXT_ALIASES)


def non_standard(reason: RejectReason, detail: str = "") -> dict[str, Any]:
    """Name a refusal: the reason, and on a second line what the guardian can act on (never told to strangers)."""
    text = f"{reason.value}\n{detail}" if detail else reason.value
    return {"nonStandardIdentifier": ("object", oids.REJECT_REASON), "data": text.encode()}


def choice(name: str) -> tuple[str, None]:
    """Write an alternative that has no value of its own."""
    return name, None
