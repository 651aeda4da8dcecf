"""Q.931: what came in goes out octet by octet, views read it, and hostile octets give DecodeError and nothing else."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import q931
from gatekeeperd.wire.q931 import (
    BearerCapability,
    Cause,
    CauseValue,
    Identifier,
    InformationElement,
    Message,
    MessageType,
    PartyNumber,
    ProgressIndicator,
)

HEADER = b"\x08\x02\x12\x34\x05"
ia5 = st.text(st.characters(max_codepoint=0x7F), max_size=20)

# Shifts (0x9-) are left out here, so that User-user keeps its two length octets; they have a test of their own.
single = st.integers(0x80, 0xFF).filter(lambda i: i & 0xF0 != 0x90).map(lambda i: InformationElement(i, None))
variable = st.builds(InformationElement, st.integers(0, 0x7D), st.binary(max_size=255))
user_user = st.builds(InformationElement, st.just(0x7E), st.binary(max_size=400))
messages = st.builds(
    Message,
    st.integers(1, 0x7F),
    st.integers(0, q931.MAX_CALL_REFERENCE),
    st.booleans(),
    st.lists(single | variable | user_user, max_size=12).map(tuple),
)
numbers = st.builds(PartyNumber, ia5, st.integers(0, 7), st.integers(0, 15)) | st.builds(
    PartyNumber, ia5, st.integers(0, 7), st.integers(0, 15), st.integers(0, 3), st.integers(0, 3)
)
causes = st.builds(
    Cause, st.integers(0, 127), st.integers(0, 15), st.integers(0, 3), st.none() | st.integers(0, 127), st.binary(max_size=8)
)
bearers = st.builds(
    BearerCapability,
    st.integers(0, 31),
    st.integers(0, 3),
    st.integers(0, 31).filter(lambda rate: rate != 0x18),
    st.none(),
    st.none() | st.integers(0, 31),
) | st.builds(
    BearerCapability,
    st.integers(0, 31),
    st.integers(0, 3),
    st.just(0x18),
    st.integers(0, 127),
    st.none() | st.integers(0, 31),
)


@given(messages)
def test_any_message_comes_back(message):
    assert q931.decode(q931.encode(message)) == message


@given(st.binary(max_size=120) | st.binary(max_size=120).map(HEADER.__add__))
def test_what_decodes_encodes_to_the_same_octets(data):
    try:
        message = q931.decode(data)
    except DecodeError:
        return
    assert q931.encode(message) == data
    for view in ("bearer_capability", "cause", "call_state", "progress_indicator", "display", "keypad", "signal"):
        check_view(message, view)
    for view in ("connected_number", "calling_party_number", "called_party_number", "user_user"):
        check_view(message, view)


def check_view(message, view):
    with contextlib.suppress(DecodeError):
        getattr(message, view)


@pytest.mark.parametrize(
    ("kind", "values"),
    [(Cause, causes), (PartyNumber, numbers), (BearerCapability, bearers)],
)
def test_typed_values_come_back(kind, values):
    @given(values)
    def comes_back(value):
        assert kind.decode(value.encode()) == value

    comes_back()


@given(st.integers(0, 127), st.integers(0, 15), st.integers(0, 3))
def test_progress_comes_back(description, location, coding):
    value = ProgressIndicator(description, location, coding)
    assert ProgressIndicator.decode(value.encode()) == value


def test_setup_as_a_terminal_sends_it():
    data = bytes.fromhex("0802 1234 05 0403 88c0a5 2806 616c69636500 6c05 0080 313233 7003 81 3435 7e0003 05abcd")
    setup = q931.decode(data)
    assert (setup.message_type, setup.name, setup.call_reference) == (MessageType.SETUP, "Setup", 0x1234)
    assert not setup.from_destination
    assert setup.bearer_capability == BearerCapability(0x08, 2, 0, None, 5)
    assert setup.display == "alice\0"
    assert setup.calling_party_number == PartyNumber("123", 0, 0, 0, 0)
    assert setup.called_party_number == PartyNumber("45", 0, 1)
    assert setup.user_user == b"\xab\xcd"
    assert setup.cause is None
    assert setup.progress_indicator is None


def test_release_complete_and_its_cause():
    data = bytes.fromhex("0802 9234 5a 0802 8090 7e0001 05")
    release = q931.decode(data)
    assert release.name == "ReleaseComplete"
    assert release.from_destination
    assert release.call_reference == 0x1234
    assert release.cause == Cause(CauseValue.NORMAL_CALL_CLEARING)
    assert release.cause.value is CauseValue.NORMAL_CALL_CLEARING
    assert release.user_user == b""


def test_cause_with_recommendation_and_diagnostics():
    assert Cause.decode(bytes.fromhex("02 81 83 ff01")) == Cause(3, 2, 0, 1, b"\xff\x01")


def test_multirate_bearer_has_its_multiplier():
    assert BearerCapability.decode(bytes.fromhex("88 98 86 a5")) == BearerCapability(8, 0, 0x18, 6, 5)


def test_make_orders_the_elements_and_reads_back():
    message = q931.make(
        MessageType.STATUS,
        7,
        from_destination=True,
        user_user=b"per",
        called_party_number=PartyNumber("200"),
        calling_party_number=PartyNumber("100", presentation=0, screening=3),
        connected_number=PartyNumber("300"),
        signal=0x3F,
        keypad="5#",
        display="Grüße",
        progress_indicator=ProgressIndicator(8, 1),
        call_state=10,
        cause=Cause(CauseValue.RESPONSE_TO_STATUS_ENQUIRY),
        bearer_capability=BearerCapability(),
    )
    assert [element.identifier for element in message.elements] == sorted(element.identifier for element in message.elements)
    back = q931.decode(q931.encode(message))
    assert back == message
    assert back.user_user == b"per"
    assert back.called_party_number == PartyNumber("200")
    assert back.calling_party_number == PartyNumber("100", presentation=0, screening=3)
    assert back.connected_number == PartyNumber("300")
    assert (back.signal, back.keypad, back.display, back.call_state) == (0x3F, "5#", "Grüße", 10)
    assert back.progress_indicator == ProgressIndicator(8, 1)
    assert back.cause == Cause(CauseValue.RESPONSE_TO_STATUS_ENQUIRY)
    assert back.bearer_capability == BearerCapability()


def test_unknown_message_type_survives():
    message = q931.decode(b"\x08\x02\x00\x01\x55")
    assert (message.message_type, message.name) == (0x55, "0x55")
    assert q931.encode(message) == b"\x08\x02\x00\x01\x55"


def test_shifted_elements_are_other_elements():
    # Non-locking shift to codeset 6: the 0x7E and 0x28 behind each are national, with one length octet.
    data = HEADER + bytes.fromhex("9e 7e01aa 9e 2801bb 28024142 7e0002 05cc 96 2801dd 7e02eeff")
    message = q931.decode(data)
    assert q931.encode(message) == data
    assert message.display == "AB"
    assert message.user_user == b"\xcc"
    swapped = message.with_user_user(b"\x01\x02")
    assert swapped.user_user == b"\x01\x02"
    assert q931.encode(swapped) == data.replace(b"\x7e\x00\x02\x05\xcc", b"\x7e\x00\x03\x05\x01\x02")


def test_user_user_is_appended_where_there_is_none_but_not_into_another_codeset():
    message = q931.decode(HEADER + b"\x28\x01A")
    assert q931.encode(message.with_user_user(b"x")) == HEADER + b"\x28\x01A\x7e\x00\x02\x05x"
    locked = q931.decode(HEADER + b"\x96\x01\x00")
    with pytest.raises(EncodeError, match="codeset 6"):
        locked.with_user_user(b"x")


def test_first_of_repeated_elements_is_read():
    assert q931.decode(HEADER + b"\x28\x01A\x28\x01B").display == "A"


@pytest.mark.parametrize(
    ("octets", "complaint"),
    [
        (b"", "0 octets end within the header"),
        (b"\x08\x02\x00\x01", "4 octets end within"),
        (b"\x09\x02\x00\x01\x05", "discriminator 0x09"),
        (b"\x08\x01\x01\x05\x00", "length of call reference 1"),
        (b"\x08\x02\x00\x01\x00", "type 0x00 is an escape"),
        (b"\x08\x02\x00\x01\x85", "type 0x85 is an escape"),
        (HEADER + b"\x28", "0x28 runs past"),
        (HEADER + b"\x28\x02A", "0x28 runs past"),
        (HEADER + b"\x7e\x00", "0x7E runs past"),
        (HEADER + b"\x7e\x01\x00\x05", "0x7E runs past"),
        (HEADER + b"\xa1" * (q931.MAX_ELEMENTS + 1), "more than 64 elements"),
        (HEADER + bytes(65531), "65536 octets"),
    ],
)
def test_bad_octets_are_named(octets, complaint):
    with pytest.raises(DecodeError, match=complaint):
        q931.decode(octets)


@pytest.mark.parametrize(
    ("element", "view", "complaint"),
    [
        (b"\x08\x00", "cause", "Cause: the contents end"),
        (b"\x08\x01\x80", "cause", "Cause: the contents end"),
        (b"\x08\x02\x00\x01", "cause", "Cause: the contents end"),
        (b"\x04\x02\xe8\x90", "bearer_capability", "coding standard 3"),
        (b"\x04\x02\x88\x98", "bearer_capability", "the contents end"),
        (b"\x70\x02\x81\xff", "called_party_number", "octet 0xFF is not IA5"),
        (b"\x2c\x01\x80", "keypad", "octet 0x80 is not IA5"),
        (b"\x34\x02\x01\x02", "signal", "SIGNAL: 2 octets"),
        (b"\x7e\x00\x01\x04", "user_user", "discriminator 04"),
        (b"\x7e\x00\x00", "user_user", "discriminator missing"),
    ],
)
def test_bad_contents_spoil_their_view_alone(element, view, complaint):
    message = q931.decode(HEADER + element + b"\x28\x01A" * (element[0] != 0x28))
    assert message.display == "A"
    with pytest.raises(DecodeError, match=complaint):
        getattr(message, view)


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageType.SETUP, -1, from_destination=False),
        Message(MessageType.SETUP, 0x8000, from_destination=False),
        Message(0, 1, from_destination=False),
        Message(0x80, 1, from_destination=False),
        Message(MessageType.SETUP, 1, False, (InformationElement(0x28, None),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0xA1, b""),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0x100, None),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0x28, bytes(256)),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0x7E, bytes(65536)),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0x7E, bytes(65530)),)),
        Message(MessageType.SETUP, 1, False, (InformationElement(0xA1, None),) * 65),
    ],
)
def test_what_does_not_fit_is_not_written(message):
    with pytest.raises(EncodeError):
        q931.encode(message)


@pytest.mark.parametrize(
    "arguments",
    [
        {"display": "鐘"},
        {"keypad": "é"},
        {"signal": 256},
        {"call_state": 64},
        {"cause": Cause(128)},
        {"cause": Cause(1, location=16)},
        {"called_party_number": PartyNumber("1", presentation=1)},
        {"called_party_number": PartyNumber("é")},
        {"progress_indicator": ProgressIndicator(128)},
        {"bearer_capability": BearerCapability(transfer_rate=0x18)},
        {"bearer_capability": BearerCapability(rate_multiplier=6)},
    ],
)
def test_values_that_do_not_fit_are_refused(arguments):
    with pytest.raises(EncodeError):
        q931.make(MessageType.SETUP, 1, from_destination=False, **arguments)


def test_messages_are_values():
    message = q931.make(MessageType.ALERTING, 1, from_destination=True)
    assert dataclasses.replace(message, call_reference=2) != message
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.call_reference = 2
    assert message.contents(Identifier.USER_USER) is None
