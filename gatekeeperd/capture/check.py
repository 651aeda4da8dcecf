"""Does our codec write what it read? Encodes each message again and says what became of it, and why.

What lives here: the comparison of value and octets, and the causes of a difference that are proved rather than
supposed. What never does: printing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gatekeeperd.capture.bitmaps import Traced, schema
from gatekeeperd.capture.dissect import Pdu, Protocol
from gatekeeperd.errors import WireError
from gatekeeperd.wire import h225, h245, q931
from gatekeeperd.wire.schema import Codec


class Cause(Enum):
    """Why the octets that we write for the same value are others."""

    SHORTER_BITMAP = "the sender's version knows fewer extensions, so its extension bitmap is shorter"
    LONGER_BITMAP = "the sender's version knows more extensions, so its extension bitmap is longer"
    PADDING = "the sender padded the message with zero octets"
    BITMAP_AND_PADDING = "an extension bitmap of another length, and zero octets as padding"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What encoding one message again came to.

    ``fault`` says why its value is not kept, ``None`` where it is. ``cause`` is ``None`` where the octets are equal.
    ``written`` are our octets. ``bitmaps`` are the (sender's, our) lengths that differ, bits.
    """

    written: bytes
    fault: str | None = None
    cause: Cause | None = None
    bitmaps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Coding:
    decode: Callable[[Any], Any]
    encode: Callable[[Any], bytes]
    traced: Codec | None = None


def _traced(name: str, max_octets: int, max_items: int) -> Codec:
    return schema.codec(name, max_octets=max_octets, max_items=max_items)


_CODINGS: Final = {
    Protocol.RAS: _Coding(h225.decode_ras, h225.encode_ras, _traced("H225.RasMessage", h225.MAX_RAS_OCTETS, h225.MAX_RAS_ITEMS)),
    Protocol.Q931: _Coding(q931.decode, q931.encode),
    Protocol.H225: _Coding(
        h225.decode_user_information,
        h225.encode_user_information,
        _traced("H225.H323-UserInformation", h225.MAX_USER_INFORMATION_OCTETS, h225.MAX_USER_INFORMATION_ITEMS),
    ),
    Protocol.H245: _Coding(
        h245.decode, h245.encode, _traced("H245.MultimediaSystemControlMessage", h245.MAX_OCTETS, h245.MAX_ITEMS)
    ),
    Protocol.FAST_START: _Coding(
        h245.decode_open_logical_channel,
        h245.encode_open_logical_channel,
        _traced("H245.OpenLogicalChannel", h245.MAX_OCTETS, h245.MAX_ITEMS),
    ),
}


def check(pdu: Pdu) -> Verdict:
    """Encode ``pdu.value`` and compare. Raises nothing: what goes wrong is the verdict."""
    coding = _CODINGS[pdu.protocol]
    try:
        written = coding.encode(pdu.value)
    except WireError as error:
        return Verdict(b"", fault=f"can't be encoded: {error}")
    try:
        if coding.decode(written) != pdu.value:
            return Verdict(written, fault="encoding it again gives another value")
    except WireError as error:
        return Verdict(written, fault=f"our own octets don't decode: {error}")
    if written == pdu.octets:
        return Verdict(written)
    if coding.traced is None:
        return Verdict(written, cause=Cause.UNEXPLAINED)
    return _explained(pdu.octets, written, coding.traced)


def _explained(octets: bytes, written: bytes, codec: Codec) -> Verdict:
    """Find the cause that accounts for every octet: undo it, and the rest must be equal."""
    if _unpadded(octets, written):
        return Verdict(written, cause=Cause.PADDING)
    traced: Traced = codec.decode(octets)
    differing = tuple((bitmap.width, bitmap.known) for bitmap in traced.bitmaps if bitmap.width != bitmap.known)
    replayed = codec.encode(traced)
    if replayed == octets:
        longer = any(width > known for width, known in differing)
        return Verdict(written, cause=Cause.LONGER_BITMAP if longer else Cause.SHORTER_BITMAP, bitmaps=differing)
    if _unpadded(octets, replayed):
        return Verdict(written, cause=Cause.BITMAP_AND_PADDING, bitmaps=differing)
    return Verdict(written, cause=Cause.UNEXPLAINED)


def _unpadded(octets: bytes, written: bytes) -> bool:
    return octets.startswith(written) and not any(octets[len(written) :])
