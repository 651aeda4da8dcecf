"""H.245 messages: MultimediaSystemControlMessage, and the OpenLogicalChannel that H.225.0's fastStart carries.

What lives here: the two codecs and how much one message may hold. Values are as ``h225`` describes them.
What never does: what a message means.
"""

from __future__ import annotations

from typing import Any, Final

from gatekeeperd.wire.schema import default_schema

__all__ = ["MAX_ITEMS", "MAX_OCTETS", "decode", "decode_open_logical_channel", "encode", "encode_open_logical_channel"]

# TPKT's length of two octets bounds a message on the H.245 channel; tunnelled ones are shorter. Captured ones have at most 104
# fields; a capability set of 180 entries, each an H.264 video mode with its parameters, has 5,000.
MAX_OCTETS: Final = 0xFFFF - 4
MAX_ITEMS: Final = 5_000

_CONTROL: Final = default_schema.codec("H245.MultimediaSystemControlMessage", max_octets=MAX_OCTETS, max_items=MAX_ITEMS)
_CHANNEL: Final = default_schema.codec("H245.OpenLogicalChannel", max_octets=MAX_OCTETS, max_items=MAX_ITEMS)


def decode(data: bytes | bytearray | memoryview) -> tuple[str, Any]:
    """Decode a control message, e.g. ``("request", ("openLogicalChannel", {...}))``. Raises :class:`DecodeError`."""
    message: tuple[str, Any] = _CONTROL.decode(data)
    return message


def encode(message: tuple[str, Any]) -> bytes:
    """Encode a control message. Raises :class:`EncodeError`, which names the field."""
    return _CONTROL.encode(message)


def decode_open_logical_channel(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Decode one entry of fastStart. Raises :class:`DecodeError`."""
    value: dict[str, Any] = _CHANNEL.decode(data)
    return value


def encode_open_logical_channel(value: dict[str, Any]) -> bytes:
    """Encode one entry of fastStart. Raises :class:`EncodeError`, which names the field."""
    return _CHANNEL.encode(value)
