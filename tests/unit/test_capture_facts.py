"""The line of facts: each kind of address and alias has words, and bad contents do not stop the line."""

import pytest

from gatekeeperd.capture.dissect import Origin, Pdu, Protocol
from gatekeeperd.capture.facts import facts
from gatekeeperd.wire import q931
from gatekeeperd.wire.q931 import Cause, MessageType, PartyNumber

ORIGIN = Origin(1, 0.0, ("10.0.0.5", 1719), ("10.0.0.1", 1719))
ADDRESS = ("ipAddress", {"ip": b"\x0a\0\0\x05", "port": 1720})


def of(protocol, value):
    return facts(Pdu(0, ORIGIN, protocol, "", value, b""))


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        (("dialledDigits", "100"), "100"),
        (("transportID", ADDRESS), "10.0.0.5:1720"),
        (("transportID", ("ip6Address", {"ip": bytes(15) + b"\1", "port": 5})), "[::1]:5"),
        (("transportID", ("nsap", b"\1")), "nsap"),
        (("partyNumber", ("e164Number", {"publicTypeOfNumber": ("unknown", None), "publicNumberDigits": "49"})), "49"),
        (("partyNumber", ("privateNumber", {"privateTypeOfNumber": ("unknown", None), "privateNumberDigits": "7"})), "7"),
        (("partyNumber", ("dataPartyNumber", "8")), "8"),
        (("mobileUIM", ("gsm-uim", {})), "gsm-uim"),
        (("_ext_9", b"\1"), "_ext_9"),
    ],
)
def test_aliases(alias, words):
    assert of(Protocol.RAS, ("admissionRequest", {"destinationInfo": [alias]})) == [f"to {words}"]


def test_an_endpoint_type_is_no_alias():
    assert of(Protocol.RAS, ("locationRequest", {"sourceInfo": [("h323-ID", "gk")]})) == ["from gk"]
    assert of(Protocol.RAS, ("locationConfirm", {"destinationInfo": {"mc": False}})) == []


def test_bandwidth_is_told_in_kilobits():
    assert of(Protocol.RAS, ("bandwidthRequest", {"bandWidth": 7680})) == ["768 kbit/s"]
    assert of(Protocol.RAS, ("bandwidthRequest", {"bandWidth": 641})) == ["64.1 kbit/s"]


def test_messages_without_fields_have_no_facts():
    assert of(Protocol.RAS, ("_ext_99", b"\1\2")) == []
    assert of(Protocol.H245, ("_ext_4", b"")) == []
    assert of(Protocol.H245, ("command", ("endSessionCommand", ("disconnect", None)))) == []


def test_signalling_and_its_bad_contents():
    message = q931.make(
        MessageType.RELEASE_COMPLETE,
        5,
        from_destination=True,
        display="Bob\0",
        calling_party_number=PartyNumber("1"),
        called_party_number=PartyNumber("2"),
        cause=Cause(99),
    )
    assert of(Protocol.Q931, message) == ["ref 5 (destination side)", "from 1", "to 2", "display Bob", "cause 99"]
    bad = q931.decode(b"\x08\x02\x00\x05\x05\x6c\x02\x81\xff\x28\x01A")
    assert of(Protocol.Q931, bad) == ["ref 5", "Party number: octet 0xFF is not IA5"]
