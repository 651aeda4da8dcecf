"""Strict DER (X.690) for flat SEQUENCEs: a reader and a writer driven by a table that comes from a pyasn1 schema.

What lives here: the schema to table step, done once at import, and the two directions. What never does: the schemas
themselves (they stand with the token that they define), and any meaning.

pyasn1 takes 100 us for one credential, twice what the Ed25519 verification beside it costs. So pyasn1 states the schema
and is the oracle of the tests, and this module reads and writes what the schema says. It takes DER and nothing else: the
shortest length and integer, TRUE as 0xFF, no element left over, so one value has one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pyasn1.type import constraint, univ

from gatekeeperd.errors import EncodeError, SecurityError

#: X.690 section 8: identifier octets.
_BOOLEAN: Final = 0x01
#: INTEGER and ENUMERATED.
_INTEGERS: Final = frozenset({0x02, 0x0A})
_UTF8_STRING: Final = 0x0C
_SEQUENCE: Final = 0x30

#: X.690 section 11.1.
_TRUE: Final = b"\xff"
_FALSE: Final = b"\x00"
_BOOLEANS: Final = frozenset({_TRUE, _FALSE})

#: Octets of the longest encoding that is looked at; our longest, with two names of 128 four-octet characters, has 1,200.
MAX_OCTETS: Final = 2048


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a SEQUENCE: identifier octet, and bounds of its size (octets, characters) or of its value."""

    name: str
    identifier: int
    lower: int
    upper: int
    optional: bool


def table(schema: univ.Sequence) -> tuple[Member, ...]:
    """Read the members of a flat pyasn1 SEQUENCE. Every member but a BOOLEAN must have a size or value constraint."""
    return tuple(
        Member(member.name, _identifier(member.asn1Object), *_bounds(member.asn1Object), member.isOptional)
        for member in schema.componentType.namedTypes
    )


def _identifier(schema: Any) -> int:
    tag = schema.tagSet.superTags[-1]
    return int(tag.tagClass | tag.tagFormat | tag.tagId)


def _bounds(schema: Any) -> tuple[int, int]:
    if _identifier(schema) == _BOOLEAN:
        return 0, 1
    (bounds,) = (
        one for one in schema.subtypeSpec if isinstance(one, constraint.ValueSizeConstraint | constraint.ValueRangeConstraint)
    )
    return int(bounds.start), int(bounds.stop)


def encode(members: tuple[Member, ...], values: tuple[Any, ...]) -> bytes:
    """Write ``values``, one for each member in order, None for an absent OPTIONAL. Raises EncodeError out of bounds."""
    body = b"".join([_encode_member(member, value) for member, value in zip(members, values, strict=True)])
    return bytes((_SEQUENCE,)) + _length(len(body)) + body


def _encode_member(member: Member, value: Any) -> bytes:
    if value is None and member.optional:
        return b""
    if not member.lower <= (value if isinstance(value, int) else len(value)) <= member.upper:
        raise EncodeError(f"{member.name} is out of bounds")
    match value:
        case bool():
            content = _TRUE if value else _FALSE
        case int():
            content = value.to_bytes(value.bit_length() // 8 + 1, "big")
        case str():
            content = value.encode()
        case _:
            content = value
    return bytes((member.identifier,)) + _length(len(content)) + content


def _length(length: int) -> bytes:
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def decode(members: tuple[Member, ...], data: bytes) -> tuple[Any, ...]:
    """Read one value for each member, None for an absent OPTIONAL. Raises SecurityError for all that isn't DER of it."""
    size = len(data)
    if size > MAX_OCTETS:
        raise SecurityError("a token is longer than any of ours")
    try:
        if data[0] != _SEQUENCE:
            raise SecurityError("a token is no SEQUENCE")
        at, end = _content(data, 1)
        if end != size:
            raise SecurityError("a token's length is not its own")
        values: list[Any] = []
        for member in members:
            if at == size or data[at] != member.identifier:
                if not member.optional:
                    raise SecurityError(f"{member.name} is missing")
                values.append(None)
                continue
            at, end = _content(data, at + 1)
            values.append(_decode_member(member, data[at:end]))
            at = end
    except IndexError:
        raise SecurityError("a token is cut off") from None
    if at != size:
        raise SecurityError("a token has more members than it should")
    return tuple(values)


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content starts and ends whose length octets stand at ``at``."""
    length = data[at]
    at += 1
    if length >= 0x80:
        octets = length - 0x80
        if octets not in {1, 2}:
            raise SecurityError("a length is indefinite or too large")
        length = int.from_bytes(data[at : at + octets], "big")
        at += octets
        # X.690 section 10.1: the fewest length octets.
        if length < (0x80, 0x100)[octets - 1]:
            raise SecurityError("a length is not the shortest")
    end = at + length
    if end > len(data):
        raise SecurityError("a token is cut off")
    return at, end


def _decode_member(member: Member, content: bytes) -> Any:
    value: Any = content
    if member.identifier in _INTEGERS:
        value = measure = _integer(member, content)
    elif member.identifier == _UTF8_STRING:
        try:
            value = content.decode()
        except UnicodeDecodeError:
            raise SecurityError(f"{member.name} is not UTF-8") from None
        measure = len(value)
    elif member.identifier == _BOOLEAN:
        if content not in _BOOLEANS:
            raise SecurityError(f"{member.name} is no DER BOOLEAN")
        value = measure = content == _TRUE
    else:
        measure = len(content)
    if not member.lower <= measure <= member.upper:
        raise SecurityError(f"{member.name} is out of bounds")
    return value


def _integer(member: Member, content: bytes) -> int:
    # X.690 section 8.3.2: the first nine bits are never all equal. Nothing of ours is negative.
    if not content or content[0] >= 0x80 or (len(content) > 1 and content[0] == 0 and content[1] < 0x80):
        raise SecurityError(f"{member.name} is not the shortest unsigned integer")
    return int.from_bytes(content, "big")
