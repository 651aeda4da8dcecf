"""The information elements of Q.931 that a call control reads or writes, as typed values.

What lives here: contents of one element to a small value and back, and the numbers' names. What never does: which
elements a message has, their identifiers' framing and codesets; that is ``q931``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from gatekeeperd.errors import DecodeError, EncodeError

#: Bit 8: in an identifier "one octet is all", within contents "the last octet of this group".
EXTENSION: Final = 0x80

_MULTIRATE: Final = 0x18
_Named = TypeVar("_Named", bound=IntEnum)


class Identifier(IntEnum):
    """Information elements of codeset 0 (Q.931 Table 4-3, Q.932, H.225.0 section 7.2.2)."""

    BEARER_CAPABILITY = 0x04
    CAUSE = 0x08
    CALL_STATE = 0x14
    CHANNEL_IDENTIFICATION = 0x18
    FACILITY = 0x1C
    PROGRESS_INDICATOR = 0x1E
    NOTIFICATION_INDICATOR = 0x27
    DISPLAY = 0x28
    DATE_TIME = 0x29
    KEYPAD_FACILITY = 0x2C
    SIGNAL = 0x34
    CONNECTED_NUMBER = 0x4C
    CALLING_PARTY_NUMBER = 0x6C
    CALLING_PARTY_SUBADDRESS = 0x6D
    CALLED_PARTY_NUMBER = 0x70
    CALLED_PARTY_SUBADDRESS = 0x71
    REDIRECTING_NUMBER = 0x74
    USER_USER = 0x7E
    SENDING_COMPLETE = 0xA1


class CauseValue(IntEnum):
    """Why a call ends (Q.850 Table 1): those that H.225.0 Table 5 maps a ReleaseCompleteReason to, and their kin."""

    UNALLOCATED_NUMBER = 1
    NO_ROUTE_TO_DESTINATION = 3
    NORMAL_CALL_CLEARING = 16
    USER_BUSY = 17
    NO_USER_RESPONDING = 18
    NO_ANSWER_FROM_USER = 19
    SUBSCRIBER_ABSENT = 20
    CALL_REJECTED = 21
    DESTINATION_OUT_OF_ORDER = 27
    INVALID_NUMBER_FORMAT = 28
    RESPONSE_TO_STATUS_ENQUIRY = 30
    NORMAL_UNSPECIFIED = 31
    NO_CIRCUIT_AVAILABLE = 34
    NETWORK_OUT_OF_ORDER = 38
    TEMPORARY_FAILURE = 41
    SWITCHING_EQUIPMENT_CONGESTION = 42
    RESOURCE_UNAVAILABLE = 47
    INCOMPATIBLE_DESTINATION = 88
    INVALID_MESSAGE = 95
    MANDATORY_ELEMENT_MISSING = 96
    MESSAGE_TYPE_UNKNOWN = 97
    MESSAGE_NOT_COMPATIBLE_WITH_STATE = 101
    RECOVERY_ON_TIMER_EXPIRY = 102
    PROTOCOL_ERROR = 111
    INTERWORKING = 127


@dataclass(frozen=True, slots=True)
class InformationElement:
    """One element. ``identifier`` is its whole first octet.

    ``contents`` is what follows the length octets, or ``None`` where the first octet is all there is (identifiers
    from 0x80: Sending complete, Shift and the like).
    """

    identifier: int
    contents: bytes | None


@dataclass(frozen=True, slots=True)
class BearerCapability:
    """Bearer capability in ITU coding (Q.931 section 4.5.5, H.225.0 section 7.2.2.1).

    ``rate_multiplier`` counts 64 kbit/s and is there with the multirate ``transfer_rate`` (0x18) and only then.
    The defaults tell of a call between H.323 terminals at an unspecified rate (packet mode, H.221 and H.242).
    """

    transfer_capability: int = 0x08
    transfer_mode: int = 0x02
    transfer_rate: int = 0x00
    rate_multiplier: int | None = None
    layer_1_protocol: int | None = 0x05

    @classmethod
    def decode(cls, contents: bytes) -> BearerCapability:
        """Read an element's contents. Octets after layer 1 are passed over. Raises DecodeError."""
        first, rest = _group(contents, "Bearer capability")
        if first[0] & 0x60:
            raise DecodeError(f"Bearer capability: coding standard {first[0] >> 5 & 3} is not the ITU's")
        second, rest = _group(rest, "Bearer capability")
        rate = second[0] & 0x1F
        multiplier = None
        if rate == _MULTIRATE:
            third, rest = _group(rest, "Bearer capability")
            multiplier = third[0] & 0x7F
        layer_1 = rest[0] & 0x1F if rest and rest[0] & 0x60 == 0x20 else None
        return cls(first[0] & 0x1F, second[0] >> 5 & 3, rate, multiplier, layer_1)

    def encode(self) -> bytes:
        """Write an element's contents. Raises EncodeError."""
        if (self.rate_multiplier is not None) != (self.transfer_rate == _MULTIRATE):
            raise EncodeError("Bearer capability: a rate multiplier belongs to the multirate transfer rate and to no other")
        octets = [
            EXTENSION | bits(self.transfer_capability, 5, "transfer capability"),
            EXTENSION | bits(self.transfer_mode, 2, "transfer mode") << 5 | bits(self.transfer_rate, 5, "transfer rate"),
        ]
        if self.rate_multiplier is not None:
            octets.append(EXTENSION | bits(self.rate_multiplier, 7, "rate multiplier"))
        if self.layer_1_protocol is not None:
            octets.append(EXTENSION | 0x20 | bits(self.layer_1_protocol, 5, "layer 1 protocol"))
        return bytes(octets)


@dataclass(frozen=True, slots=True)
class Cause:
    """Cause (Q.850 section 2.2). ``value`` is a :class:`CauseValue` where it is known; ``location`` 0 is the user."""

    value: int
    location: int = 0
    coding_standard: int = 0
    recommendation: int | None = None
    diagnostics: bytes = b""

    @classmethod
    def decode(cls, contents: bytes) -> Cause:
        """Read an element's contents. Raises DecodeError."""
        first, rest = _group(contents, "Cause")
        second, diagnostics = _group(rest, "Cause")
        return cls(
            value=named(CauseValue, second[0] & 0x7F),
            location=first[0] & 0x0F,
            coding_standard=first[0] >> 5 & 3,
            recommendation=first[1] & 0x7F if len(first) > 1 else None,
            diagnostics=diagnostics,
        )

    def encode(self) -> bytes:
        """Write an element's contents. Raises EncodeError."""
        first = bits(self.coding_standard, 2, "coding standard") << 5 | bits(self.location, 4, "location")
        octets = [first | EXTENSION]
        if self.recommendation is not None:
            octets = [first, EXTENSION | bits(self.recommendation, 7, "recommendation")]
        return bytes([*octets, EXTENSION | bits(self.value, 7, "cause value")]) + self.diagnostics


@dataclass(frozen=True, slots=True)
class PartyNumber:
    """Calling, called, connected or redirecting party number (Q.931 sections 4.5.8 and 4.5.10).

    ``presentation`` (0 allowed, 1 restricted, 2 not available) and ``screening`` share an octet that a called party
    number never has and others may leave out: then both are ``None``.
    """

    digits: str
    type_of_number: int = 0
    numbering_plan: int = 1
    presentation: int | None = None
    screening: int | None = None

    @classmethod
    def decode(cls, contents: bytes) -> PartyNumber:
        """Read an element's contents. Raises DecodeError."""
        first, digits = _group(contents, "Party number")
        has_3a = len(first) > 1
        return cls(
            digits=ia5(digits, "Party number"),
            type_of_number=first[0] >> 4 & 7,
            numbering_plan=first[0] & 0x0F,
            presentation=first[1] >> 5 & 3 if has_3a else None,
            screening=first[1] & 3 if has_3a else None,
        )

    def encode(self) -> bytes:
        """Write an element's contents. Raises EncodeError."""
        if (self.presentation is None) != (self.screening is None):
            raise EncodeError("Party number: presentation and screening share an octet, give both or neither")
        first = bits(self.type_of_number, 3, "type of number") << 4 | bits(self.numbering_plan, 4, "numbering plan")
        octets = [first | EXTENSION]
        if self.presentation is not None and self.screening is not None:
            octets = [
                first,
                EXTENSION | bits(self.presentation, 2, "presentation") << 5 | bits(self.screening, 2, "screening"),
            ]
        return bytes(octets) + from_ia5(self.digits, "Party number")


@dataclass(frozen=True, slots=True)
class ProgressIndicator:
    """Progress indicator (Q.931 section 4.5.23). ``description`` 8 tells of in-band tones or announcements."""

    description: int
    location: int = 0
    coding_standard: int = 0

    @classmethod
    def decode(cls, contents: bytes) -> ProgressIndicator:
        """Read an element's contents. Raises DecodeError."""
        first, rest = _group(contents, "Progress indicator")
        second, _ = _group(rest, "Progress indicator")
        return cls(second[0] & 0x7F, first[0] & 0x0F, first[0] >> 5 & 3)

    def encode(self) -> bytes:
        """Write an element's contents. Raises EncodeError."""
        first = bits(self.coding_standard, 2, "coding standard") << 5 | bits(self.location, 4, "location")
        return bytes((EXTENSION | first, EXTENSION | bits(self.description, 7, "progress description")))


def named(names: type[_Named], value: int) -> _Named | int:
    """Give the member of ``names`` with this value, or the number itself where none has it."""
    try:
        return names(value)
    except ValueError:
        return value


def _group(contents: bytes, what: str) -> tuple[bytes, bytes]:
    """Split off the first octet group (3, 3a, 3b ...): it ends with the first octet whose bit 8 is set."""
    for end, octet in enumerate(contents, 1):
        if octet & EXTENSION:
            return contents[:end], contents[end:]
    raise DecodeError(f"{what}: the contents end within an octet group")


def bits(value: int, width: int, what: str) -> int:
    """Check that ``value`` fits into ``width`` bits. Raises EncodeError that names ``what``."""
    if not 0 <= value < 1 << width:
        raise EncodeError(f"{what}: {value} does not fit into {width} bits")
    return value


def ia5(octets: bytes, what: str) -> str:
    """Read IA5 text. Raises DecodeError that names ``what``."""
    try:
        return octets.decode("ascii")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{what}: octet 0x{octets[error.start]:02X} is not IA5") from error


def from_ia5(text: str, what: str) -> bytes:
    """Write IA5 text. Raises EncodeError that names ``what``."""
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise EncodeError(f"{what}: {text[error.start]!r} is not IA5") from error
