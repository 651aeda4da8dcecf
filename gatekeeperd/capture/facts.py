"""What a reader wants to know of a message at first sight: who, whom, which call, how much, why not.

What lives here: the few fields worth a line, as text that is safe to print. What never does: layout and colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, Final

from gatekeeperd.capture.dissect import Pdu, Protocol
from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import DecodeError
from gatekeeperd.wire import q931


def facts(pdu: Pdu) -> list[str]:
    """Give the facts in reading order, each a few words such as ``to bob`` or ``768 kbit/s``."""
    if pdu.protocol is Protocol.Q931:
        return list(_signalling(pdu.value))
    if pdu.protocol is Protocol.H225:
        information = pdu.value["h323-uu-pdu"]
        return [*_fields(information["h323-message-body"][1], _H225), *_fields(information, _TUNNEL)]
    if pdu.protocol is Protocol.H245:
        content = pdu.value[1]
        return list(_fields(content[1], _H245)) if isinstance(content, tuple) else []
    return list(_fields(pdu.value, _H245) if pdu.protocol is Protocol.FAST_START else _fields(pdu.value[1], _RAS))


def printable(text: str) -> str:
    """Escape what a peer could play tricks on a terminal with: everything that is no visible character or space."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def host_and_port(address: TransportAddress) -> str:
    """Write an address as URLs do: ``192.0.2.1:1720``, ``[2001:db8::1]:1720``."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _signalling(message: q931.Message) -> Iterator[str]:
    yield f"ref {message.call_reference}{' (destination side)' if message.from_destination else ''}"
    try:
        if message.calling_party_number:
            yield f"from {printable(message.calling_party_number.digits)}"
        if message.called_party_number:
            yield f"to {printable(message.called_party_number.digits)}"
        if message.display:
            yield f"display {printable(message.display.rstrip(chr(0)))}"
        if message.cause:
            value = message.cause.value
            name = value.name.lower().replace("_", " ") if isinstance(value, q931.CauseValue) else ""
            yield f"cause {int(value)} {name}".rstrip()
    except DecodeError as error:
        yield printable(str(error))


def _fields(value: Any, wanted: dict[str, Callable[[Any], str]]) -> Iterator[str]:
    if isinstance(value, dict):
        for field, words in wanted.items():
            if field in value and (text := words(value[field])):
                yield text


def _labelled(label: str, words: Callable[[Any], str] = str) -> Callable[[Any], str]:
    def text(value: Any) -> str:
        shown = words(value)
        return f"{label} {shown}" if shown else ""

    return text


def _flag(label: str) -> Callable[[Any], str]:
    return lambda value: label if value else ""


def _count(what: str) -> Callable[[Any], str]:
    return lambda values: f"{len(values)} {what}"


def _choice(value: Any) -> str:
    return str(value[0])


def _alias(value: Any) -> str:
    """Write an AliasAddress or PartyNumber: its text where it has one, else its kind."""
    kind, content = value
    if isinstance(content, str):
        return printable(content)
    if kind == "transportID":
        return _address(content)
    if isinstance(content, tuple):
        return _alias(content)
    digits = content.get("publicNumberDigits", content.get("privateNumberDigits")) if isinstance(content, dict) else None
    return str(digits or kind)


def _aliases(value: Any) -> str:
    # sourceInfo and destinationInfo are aliases in RAS and an EndpointType in signalling.
    return ", ".join(map(_alias, value)) if isinstance(value, list) else ""


def _address(value: Any) -> str:
    kind, content = value
    if kind in {"ipAddress", "ip6Address"}:
        return host_and_port((str(ip_address(content["ip"])), content["port"]))
    return str(kind)


def _addresses(value: Any) -> str:
    return ", ".join(map(_address, value)) if isinstance(value, list) else _address(value)


def _bandwidth(value: int) -> str:
    # BandWidth counts 100 bit/s, both directions summed (H.225.0 v7 section 7.2.1).
    return f"{value // 10 if value % 10 == 0 else value / 10} kbit/s"


def _call(value: Any) -> str:
    # The first octets tell the calls of a capture apart.
    return str(value["guid"][:4].hex())


def _data_type(value: Any) -> str:
    kind, content = value.get("dataType", ("nullData", None))
    if kind == "nullData":
        return ""
    return str(content[0]) if isinstance(content, tuple) else str(kind)


_RAS: Final[dict[str, Callable[[Any], str]]] = {
    "requestSeqNum": _labelled("seq"),
    "keepAlive": _flag("keepAlive"),
    "rejectReason": _choice,
    "reason": _choice,
    "disengageReason": _choice,
    "callIdentifier": _labelled("call", _call),
    "srcInfo": _labelled("from", _aliases),
    "sourceInfo": _labelled("from", _aliases),
    "destinationInfo": _labelled("to", _aliases),
    "answerCall": _flag("answering"),
    "terminalAlias": _labelled("alias", _aliases),
    "endpointAlias": _labelled("alias", _aliases),
    "bandWidth": _bandwidth,
    "callModel": _choice,
    "destCallSignalAddress": _labelled("at", _addresses),
    "callSignalAddress": _labelled("signalling", _addresses),
    "timeToLive": _labelled("TTL"),
    "delay": _labelled("delay ms"),
    "gatekeeperIdentifier": _labelled("gatekeeper", printable),
    "endpointIdentifier": _labelled("endpoint", printable),
}
_H225: Final[dict[str, Callable[[Any], str]]] = {
    "reason": _choice,
    "callIdentifier": _labelled("call", _call),
    "sourceAddress": _labelled("from", _aliases),
    "destinationAddress": _labelled("to", _aliases),
    "destCallSignalAddress": _labelled("at", _address),
    "conferenceGoal": _choice,
    "h245Address": _labelled("H.245 at", _address),
    "fastStart": _count("fastStart"),
    "parallelH245Control": _count("parallel H.245"),
}
_TUNNEL: Final[dict[str, Callable[[Any], str]]] = {
    "h245Tunnelling": _flag("tunnelling"),
    "h245Control": _count("H.245 within"),
}
_H245: Final[dict[str, Callable[[Any], str]]] = {
    "sequenceNumber": _labelled("seq"),
    "terminalType": _labelled("terminal type"),
    "statusDeterminationNumber": _labelled("number"),
    "decision": _choice,
    "capabilityTable": _count("capabilities"),
    "forwardLogicalChannelNumber": _labelled("channel"),
    "forwardLogicalChannelParameters": _labelled("sends", _data_type),
    "reverseLogicalChannelParameters": _labelled("receives", _data_type),
    "cause": _choice,
    "type": _choice,
    "signalType": _labelled("key", printable),
}
