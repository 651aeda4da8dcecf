"""ClearTokens in the ``tokens`` of a RAS message, and the octets of a token inside a PDU.

What lives here: finding, adding and blanking tokens, and the framing of what gets signed. What never does: keys.

Signatures and MACs cover the octets that were sent, never a re-encoding. Token data is an OCTET STRING, which aligned
PER puts on an octet boundary, so it can be found in the PDU by its octets alone. Where it occurs more than once nobody
can say which occurrence is the token, so such a PDU is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from gatekeeperd.errors import SecurityError
from gatekeeperd.security.oids import CHALLENGE, Oid

#: A decoded RAS message: the choice name of ``RasMessage`` and its fields, a dict but for two oddities (see ``wire.h225``).
RasMessage: TypeAlias = tuple[str, Any]

CHALLENGE_LENGTH: Final = 32


def clear_token(oid: Oid, data: bytes, challenge: bytes | None = None) -> dict[str, Any]:
    """Return an H.235 ClearToken that carries ``data`` under ``oid``."""
    token: dict[str, Any] = {"tokenOID": oid}
    if challenge is not None:
        token["challenge"] = challenge
    token["nonStandard"] = {"nonStandardIdentifier": oid, "data": data}
    return token


def challenge_token(challenge: bytes) -> dict[str, Any]:
    """Return the ClearToken that carries a challenge (32 octets)."""
    return {"tokenOID": CHALLENGE, "challenge": challenge}


def with_tokens(message: RasMessage, *tokens: dict[str, Any]) -> RasMessage:
    """Return a copy of ``message`` with ``tokens`` after those that it has."""
    name, fields = message
    return name, {**fields, "tokens": [*fields.get("tokens", ()), *tokens]}


def items(message: RasMessage, name: str) -> Sequence[Any]:
    """Return the items of ``tokens`` or ``cryptoTokens``, none where the message has no such field."""
    fields = message[1]
    # An admissionConfirmSequence is a list, a message of a later version is octets: neither carries tokens of ours.
    return fields.get(name, ()) if isinstance(fields, dict) else ()


def find_token(message: RasMessage, oid: Oid) -> dict[str, Any] | None:
    """Return the one ClearToken with ``oid``, None where there is none. Raises SecurityError where there are several."""
    found: dict[str, Any] | None = None
    for token in items(message, "tokens"):
        if token["tokenOID"] == oid:
            if found is not None:
                raise SecurityError("a token occurs twice in one message")
            found = token
    return found


def token_data(token: dict[str, Any], oid: Oid) -> bytes:
    """Return the octets that a ClearToken of ours carries. Raises SecurityError where it carries none."""
    carrier = token.get("nonStandard")
    if carrier is None or carrier["nonStandardIdentifier"] != oid:
        raise SecurityError("a token carries no data of its own kind")
    data: bytes = carrier["data"]
    return data


def read_challenge(message: RasMessage) -> bytes | None:
    """Return the 32 octets of the CHALLENGE token, None where there is none. Raises SecurityError where it is malformed."""
    token = find_token(message, CHALLENGE)
    return None if token is None else token_challenge(token)


def token_challenge(token: dict[str, Any]) -> bytes:
    """Return the ``challenge`` of a ClearToken. Raises SecurityError where it isn't 32 octets."""
    challenge: bytes = token.get("challenge", b"")
    if len(challenge) != CHALLENGE_LENGTH:
        raise SecurityError("a challenge is not 32 octets long")
    return challenge


def locate(pdu: bytes | bytearray, octets: bytes) -> int:
    """Return the offset of ``octets`` in ``pdu``. Raises SecurityError unless they occur exactly once."""
    at = pdu.find(octets)
    if at < 0:
        raise SecurityError("a token's octets are not in the message")
    # Overlapping occurrences count too, which bytes.count() would miss.
    if pdu.rfind(octets) != at:
        raise SecurityError("a token's octets are in the message more than once")
    return at


def frame(*parts: bytes) -> bytes:
    """Join ``parts`` so that no other parts give the same octets: each has its length (4 octets) before it."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def octets_of(value: object) -> bytes:
    """Write a decoded ASN.1 value as octets, one way only: a type letter, a length, the content.

    Takes what the codec gives: None, bool, int, str, bytes, and tuples, lists and dicts of these (members in the order
    of their names).
    """
    match value:
        case str():
            letter, content = b"s", value.encode("utf-8", "surrogatepass")
        case bytes():
            letter, content = b"o", value
        case bool():
            letter, content = b"b", bytes((value,))
        case int():
            letter, content = b"i", b"%d" % value
        case None:
            letter, content = b"n", b""
        case tuple():
            letter, content = b"t", b"".join([octets_of(item) for item in value])
        case list():
            letter, content = b"l", b"".join([octets_of(item) for item in value])
        case dict():
            letter, content = b"d", b"".join([octets_of(name) + octets_of(value[name]) for name in sorted(value)])
        case _:
            raise TypeError(f"{type(value).__name__} is no value of the codec")
    return letter + len(content).to_bytes(4, "big") + content
