"""H.225.0 v7 messages: RAS (section 7.9 onwards) and the user-user information of call signalling (H323-UserInformation).

What lives here: the two codecs and how much one message may hold.
What never does: what a message means. Values are plain Python, named as in the Recommendation:

- SEQUENCE a dict of the fields that are there; SEQUENCE OF a list; CHOICE ``(name, value)``; ENUMERATED its name
- NULL None; BOOLEAN bool; INTEGER int; OCTET STRING bytes; BIT STRING ``(int, number of bits)``; OBJECT IDENTIFIER a tuple of
  ints; strings str
- what version 7 does not know: field ``_ext_N`` with its octets, ``("_ext_N", octets)``, item ``_ext_N``
"""

from __future__ import annotations

from typing import Any, Final

from gatekeeperd.wire.schema import default_schema

__all__ = [
    "MAX_RAS_ITEMS",
    "MAX_RAS_OCTETS",
    "MAX_USER_INFORMATION_ITEMS",
    "MAX_USER_INFORMATION_OCTETS",
    "decode_ras",
    "decode_user_information",
    "encode_ras",
    "encode_user_information",
]

# A RAS datagram that is not fragmented has at most 1,472 octets, and the longest captured one 251; yet an IRR that tells of 25
# calls, each with two tokens, takes 7,969 octets and 2,000 fields. Twice those fields decode in half a millisecond, compiled.
MAX_RAS_OCTETS: Final = 8192
MAX_RAS_ITEMS: Final = 4_000
# The user-user element of Q.931 has a length of two octets, and TPKT's 65,531 hold it and the rest. Its long parts are tunnelled
# octets; the fields of captured ones number 113 at most.
MAX_USER_INFORMATION_OCTETS: Final = 0xFFFF - 4
MAX_USER_INFORMATION_ITEMS: Final = 4_000

_RAS: Final = default_schema.codec("H225.RasMessage", max_octets=MAX_RAS_OCTETS, max_items=MAX_RAS_ITEMS)
_USER_INFORMATION: Final = default_schema.codec(
    "H225.H323-UserInformation", max_octets=MAX_USER_INFORMATION_OCTETS, max_items=MAX_USER_INFORMATION_ITEMS
)


def decode_ras(data: bytes | bytearray | memoryview) -> tuple[str, Any]:
    """Decode one RAS datagram into ``(name, fields)``, e.g. ``("registrationRequest", {"requestSeqNum": 1, ...})``.

    ``fields`` is a dict, but for ``admissionConfirmSequence`` (a list of them) and messages of later versions (``_ext_N``:
    octets). Zero octets behind the message are padding. Raises :class:`DecodeError`.
    """
    message: tuple[str, Any] = _RAS.decode(data)
    return message


def encode_ras(message: tuple[str, Any]) -> bytes:
    """Encode a RAS message. Raises :class:`EncodeError`, which names the field."""
    return _RAS.encode(message)


def decode_user_information(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Decode an H323-UserInformation (the user-user element without its protocol discriminator). Raises :class:`DecodeError`."""
    value: dict[str, Any] = _USER_INFORMATION.decode(data)
    return value


def encode_user_information(value: dict[str, Any]) -> bytes:
    """Encode an H323-UserInformation. Raises :class:`EncodeError`, which names the field."""
    return _USER_INFORMATION.encode(value)
