"""Q.931 messages as H.225.0 profiles them (H.225.0 v7 section 7.2): the envelope of call signalling.

What lives here: octets to :class:`Message` and back, and typed views of the information elements that a call
control reads or writes. What never does: the H.225.0 payload (``h225`` decodes what :attr:`Message.user_user` gives),
TPKT, and any call state.

A :class:`Message` keeps every information element's octets in the order in which they came, known or not, so that a
gatekeeper which routes a call hands on what it does not understand. The typed views read those octets when asked:
a bad Display does not spoil a Setup, it raises when the display is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import tpkt
from gatekeeperd.wire.q931_elements import (
    EXTENSION,
    BearerCapability,
    Cause,
    CauseValue,
    Identifier,
    InformationElement,
    PartyNumber,
    ProgressIndicator,
    bits,
    from_ia5,
    ia5,
    named,
)

__all__ = [
    "BearerCapability",
    "Cause",
    "CauseValue",
    "Identifier",
    "InformationElement",
    "Message",
    "MessageType",
    "PartyNumber",
    "ProgressIndicator",
    "decode",
    "encode",
    "make",
]

PROTOCOL_DISCRIMINATOR: Final = 0x08
#: First octet of the User-user element: what follows is ASN.1 (H.225.0 section 7.2.2.31).
USER_USER_ASN1: Final = 0x05
#: The largest call reference value: 15 bits (Q.931 section 4.3). 0 is the global call reference.
MAX_CALL_REFERENCE: Final = 0x7FFF
#: Elements in one message. H.225.0 knows some thirty and a Setup carries about six; a peer gets no more of us.
MAX_ELEMENTS: Final = 64

_CALL_REFERENCE_FLAG: Final = 0x8000
_FIXED_LENGTH: Final = 5  # discriminator, length of the call reference, the call reference, message type
_SHIFT: Final = 0x90


class MessageType(IntEnum):
    """Messages of Q.931 that H.225.0 Table 4 lets pass, and those that it names to forbid."""

    ALERTING = 0x01
    CALL_PROCEEDING = 0x02
    PROGRESS = 0x03
    SETUP = 0x05
    CONNECT = 0x07
    SETUP_ACKNOWLEDGE = 0x0D
    CONNECT_ACKNOWLEDGE = 0x0F
    USER_INFORMATION = 0x20
    SUSPEND = 0x25
    RESUME = 0x26
    DISCONNECT = 0x45
    RELEASE = 0x4D
    RELEASE_COMPLETE = 0x5A
    FACILITY = 0x62
    NOTIFY = 0x6E
    STATUS_INQUIRY = 0x75
    CONGESTION_CONTROL = 0x79
    INFORMATION = 0x7B
    STATUS = 0x7D


@dataclass(frozen=True, slots=True)
class Message:
    """One call signalling message.

    ``message_type`` is a :class:`MessageType` where it is known. ``call_reference`` is 0 to 32,767; its flag
    ``from_destination`` is set by the side that did not choose the call reference (Q.931 section 4.3).
    The views give ``None`` where the element is absent, read the first where it is repeated, and raise DecodeError
    where its contents are bad.
    """

    message_type: int
    call_reference: int
    from_destination: bool
    elements: tuple[InformationElement, ...] = ()

    @property
    def name(self) -> str:
        """The ITU's name of the message type, such as ``ReleaseComplete``, or its number."""
        known = named(MessageType, self.message_type)
        return known.name.title().replace("_", "") if isinstance(known, MessageType) else f"0x{known:02X}"

    def contents(self, identifier: int) -> bytes | None:
        """Contents of the first element of codeset 0 with this identifier."""
        codeset = _Codeset()
        for element in self.elements:
            if codeset.of(element.identifier) == 0 and element.identifier == identifier:
                return element.contents
        return None

    @property
    def bearer_capability(self) -> BearerCapability | None:
        """Bearer capability."""
        contents = self.contents(Identifier.BEARER_CAPABILITY)
        return None if contents is None else BearerCapability.decode(contents)

    @property
    def cause(self) -> Cause | None:
        """Cause."""
        contents = self.contents(Identifier.CAUSE)
        return None if contents is None else Cause.decode(contents)

    @property
    def call_state(self) -> int | None:
        """Call state (Q.931 section 4.5.7), 0 to 63: what a Status reports."""
        octet = self._one_octet(Identifier.CALL_STATE)
        return None if octet is None else octet & 0x3F

    @property
    def progress_indicator(self) -> ProgressIndicator | None:
        """Progress indicator."""
        contents = self.contents(Identifier.PROGRESS_INDICATOR)
        return None if contents is None else ProgressIndicator.decode(contents)

    @property
    def display(self) -> str | None:
        """Display. Read as ISO 8859-1, of which IA5 is the half: room systems send umlauts, and no octet is lost."""
        contents = self.contents(Identifier.DISPLAY)
        return None if contents is None else contents.decode("latin-1")

    @property
    def keypad(self) -> str | None:
        """Keypad facility: the digits of an Information message."""
        contents = self.contents(Identifier.KEYPAD_FACILITY)
        return None if contents is None else ia5(contents, "Keypad facility")

    @property
    def signal(self) -> int | None:
        """Signal (Q.931 section 4.5.28): the tone to play."""
        return self._one_octet(Identifier.SIGNAL)

    @property
    def calling_party_number(self) -> PartyNumber | None:
        """Calling party number."""
        contents = self.contents(Identifier.CALLING_PARTY_NUMBER)
        return None if contents is None else PartyNumber.decode(contents)

    @property
    def called_party_number(self) -> PartyNumber | None:
        """Called party number."""
        contents = self.contents(Identifier.CALLED_PARTY_NUMBER)
        return None if contents is None else PartyNumber.decode(contents)

    @property
    def connected_number(self) -> PartyNumber | None:
        """Connected number."""
        contents = self.contents(Identifier.CONNECTED_NUMBER)
        return None if contents is None else PartyNumber.decode(contents)

    @property
    def user_user(self) -> bytes | None:
        """The H323-UserInformation, aligned PER, without the protocol discriminator before it."""
        contents = self.contents(Identifier.USER_USER)
        if contents is None:
            return None
        if contents[:1] != bytes((USER_USER_ASN1,)):
            raise DecodeError(f"User-user: protocol discriminator {contents[:1].hex() or 'missing'}, not 05")
        return contents[1:]

    def with_user_user(self, user_information: bytes) -> Message:
        """Put another H323-UserInformation into the same message, every other element untouched and in its place.

        Raises EncodeError where there was none and the last element is a Shift to another codeset.
        """
        codeset = _Codeset()
        fresh = _user_user(user_information)
        for place, element in enumerate(self.elements):
            if codeset.of(element.identifier) == 0 and element.identifier == Identifier.USER_USER:
                return replace(self, elements=(*self.elements[:place], fresh, *self.elements[place + 1 :]))
        if codeset.following:
            raise EncodeError(f"User-user: the message ends in codeset {codeset.following}, where it means something else")
        return replace(self, elements=(*self.elements, fresh))

    def _one_octet(self, identifier: Identifier) -> int | None:
        contents = self.contents(identifier)
        if contents is None:
            return None
        if len(contents) != 1:
            raise DecodeError(f"{identifier.name}: {len(contents)} octets, not 1")
        return contents[0]


def make(
    message_type: MessageType,
    call_reference: int,
    *,
    from_destination: bool,
    bearer_capability: BearerCapability | None = None,
    cause: Cause | None = None,
    call_state: int | None = None,
    progress_indicator: ProgressIndicator | None = None,
    display: str | None = None,
    keypad: str | None = None,
    signal: int | None = None,
    connected_number: PartyNumber | None = None,
    calling_party_number: PartyNumber | None = None,
    called_party_number: PartyNumber | None = None,
    user_user: bytes | None = None,
) -> Message:
    """Put a message together, its elements in the ascending order that Q.931 section 4.5.1 asks for.

    ``user_user`` is an H323-UserInformation in aligned PER. Raises EncodeError where a value does not fit its bits.
    """
    typed = (
        (Identifier.BEARER_CAPABILITY, bearer_capability),
        (Identifier.CAUSE, cause),
        (Identifier.PROGRESS_INDICATOR, progress_indicator),
        (Identifier.CONNECTED_NUMBER, connected_number),
        (Identifier.CALLING_PARTY_NUMBER, calling_party_number),
        (Identifier.CALLED_PARTY_NUMBER, called_party_number),
    )
    elements = [InformationElement(identifier, value.encode()) for identifier, value in typed if value is not None]
    if call_state is not None:
        elements.append(InformationElement(Identifier.CALL_STATE, bytes((bits(call_state, 6, "call state"),))))
    if display is not None:
        try:
            elements.append(InformationElement(Identifier.DISPLAY, display.encode("latin-1")))
        except UnicodeEncodeError as error:
            raise EncodeError(f"Display: {display[error.start]!r} is not in ISO 8859-1") from error
    if keypad is not None:
        elements.append(InformationElement(Identifier.KEYPAD_FACILITY, from_ia5(keypad, "Keypad facility")))
    if signal is not None:
        elements.append(InformationElement(Identifier.SIGNAL, bytes((bits(signal, 8, "signal"),))))
    if user_user is not None:
        elements.append(_user_user(user_user))
    elements.sort(key=lambda element: element.identifier)
    return Message(message_type, call_reference, from_destination, tuple(elements))


def decode(data: bytes) -> Message:
    """Read one message (the payload of a TPKT). Raises DecodeError, in time linear to its length."""
    if len(data) > tpkt.MAX_PAYLOAD:
        raise DecodeError(f"Q.931: {len(data)} octets, at most {tpkt.MAX_PAYLOAD} are taken")
    if len(data) < _FIXED_LENGTH:
        raise DecodeError(f"Q.931: {len(data)} octets end within the header")
    if data[0] != PROTOCOL_DISCRIMINATOR:
        raise DecodeError(f"Q.931: protocol discriminator 0x{data[0]:02X}, not 0x08")
    if data[1] != 2:
        raise DecodeError(f"Q.931: length of call reference {data[1]}, H.225.0 has 2")
    reference = int.from_bytes(data[2:4], "big")
    message_type = data[4]
    if message_type == 0 or message_type & EXTENSION:
        raise DecodeError(f"Q.931: message type 0x{message_type:02X} is an escape, H.225.0 has none")
    return Message(
        message_type=named(MessageType, message_type),
        call_reference=reference & MAX_CALL_REFERENCE,
        from_destination=bool(reference & _CALL_REFERENCE_FLAG),
        elements=_decode_elements(data),
    )


def encode(message: Message) -> bytes:
    """Write one message. What :func:`decode` gave comes out octet by octet as it went in. Raises EncodeError."""
    if not 0 <= message.call_reference <= MAX_CALL_REFERENCE:
        raise EncodeError(f"Q.931: call reference {message.call_reference} is not within 0 to {MAX_CALL_REFERENCE}")
    if not 0 < message.message_type < EXTENSION:
        raise EncodeError(f"Q.931: message type {message.message_type} is not within 1 to 127")
    if len(message.elements) > MAX_ELEMENTS:
        raise EncodeError(f"Q.931: {len(message.elements)} elements, at most {MAX_ELEMENTS} are written")
    reference = message.call_reference | (_CALL_REFERENCE_FLAG if message.from_destination else 0)
    octets = bytearray((PROTOCOL_DISCRIMINATOR, 2, *reference.to_bytes(2, "big"), message.message_type))
    octets += _encode_elements(message.elements)
    if len(octets) > tpkt.MAX_PAYLOAD:
        raise EncodeError(f"Q.931: {len(octets)} octets, {tpkt.MAX_PAYLOAD} fit")
    return bytes(octets)


class _Codeset:
    """Which codeset each element belongs to (Q.931 sections 4.5.2 to 4.5.4): a Shift turns the page for those after it."""

    def __init__(self) -> None:
        self.following = 0
        self._locked = 0

    def of(self, identifier: int) -> int:
        codeset, self.following = self.following, self._locked
        if identifier & 0xF0 == _SHIFT:
            self.following = identifier & 7
            if not identifier & 8:
                self._locked = self.following
        return codeset

    def length_octets(self, identifier: int) -> int:
        """Count the length octets of this element: H.225.0 section 7.2.2.31 gives User-user two."""
        return 2 if self.of(identifier) == 0 and identifier == Identifier.USER_USER else 1


def _decode_elements(data: bytes) -> tuple[InformationElement, ...]:
    elements: list[InformationElement] = []
    codeset = _Codeset()
    at = _FIXED_LENGTH
    while at < len(data):
        if len(elements) == MAX_ELEMENTS:
            raise DecodeError(f"Q.931: more than {MAX_ELEMENTS} elements")
        identifier = data[at]
        start = at + 1 + codeset.length_octets(identifier)
        if identifier & EXTENSION:
            elements.append(InformationElement(identifier, None))
            at += 1
            continue
        at = start + int.from_bytes(data[at + 1 : start], "big")
        if start > len(data) or at > len(data):
            raise DecodeError(f"Q.931: element 0x{identifier:02X} runs past the end of the message")
        elements.append(InformationElement(identifier, data[start:at]))
    return tuple(elements)


def _encode_elements(elements: Iterable[InformationElement]) -> bytes:
    octets = bytearray()
    codeset = _Codeset()
    for element in elements:
        single = element.identifier >= EXTENSION
        if not 0 <= element.identifier <= 0xFF or single != (element.contents is None):
            raise EncodeError(
                f"Q.931: element {element.identifier} has contents where it takes none, or none where it takes some"
            )
        octets.append(element.identifier)
        width = codeset.length_octets(element.identifier)
        if element.contents is not None:
            if len(element.contents) >= 1 << 8 * width:
                raise EncodeError(f"Q.931: element 0x{element.identifier:02X} of {len(element.contents)} octets is too long")
            octets += len(element.contents).to_bytes(width, "big") + element.contents
    return bytes(octets)


def _user_user(user_information: bytes) -> InformationElement:
    return InformationElement(Identifier.USER_USER, bytes((USER_USER_ASN1,)) + user_information)
