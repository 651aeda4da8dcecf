"""Each kind of type against octets worked out by hand from X.691, at its bounds, and with what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire.schema import Codec, Schema

DIGITS = "[#*,0123456789]"


def shown_id(value: object) -> str | None:
    return None if isinstance(value, str) else "value"


def codec(schema: Schema, text: str) -> Codec:
    return schema.codec(text, max_octets=1 << 17, max_items=100)


@pytest.mark.parametrize(
    ("text", "value", "octets"),
    [
        # clause 11.5.7: the bits that the span needs, one octet, two octets, a count of octets
        ("INTEGER(1..15)", 1, "00"),
        ("INTEGER(1..15)", 15, "e0"),
        ("INTEGER(8..8)", 8, "00"),
        ("INTEGER(1..255)", 255, "fe"),
        ("INTEGER(0..255)", 255, "ff"),
        ("INTEGER(1..256)", 256, "ff"),
        ("INTEGER(0..65535)", 258, "0102"),
        ("INTEGER(1..65536)", 65536, "ffff"),
        ("INTEGER(0..262143)", 0, "0000"),
        ("INTEGER(0..262143)", 262143, "8003ffff"),
        ("INTEGER(1..4294967295)", 256, "00ff"),
        ("INTEGER(1..4294967295)", 4294967295, "c0fffffffe"),
        ("INTEGER(-262144..262143)", -262144, "0000"),
        ("INTEGER(-262144..262143)", -1, "8003ffff"),
        # clauses 11.7 and 11.8: a length and octets
        ("INTEGER(1..MAX)", 1, "0100"),
        ("INTEGER(1..MAX)", 257, "020100"),
        ("INTEGER", 127, "017f"),
        ("INTEGER", 128, "020080"),
        ("INTEGER", -128, "0180"),
        ("INTEGER", -129, "02ff7f"),
        # clause 13.1: within its bounds or not
        ("INTEGER(0..16383,...)", 16383, "003fff"),
        ("INTEGER(0..16383,...)", 16384, "80024000"),
        ("INTEGER(0..16383,...)", -1, "8001ff"),
        ("BOOLEAN", True, "80"),
        ("NULL", None, "00"),
        # clause 17: up to two octets of a fixed size are not aligned, everything else is
        ("OCTET STRING(2)", b"\x01\x02", "0102"),
        ("OCTET STRING(16)", bytes(range(16)), bytes(range(16)).hex()),
        ("OCTET STRING(1..4)", b"\xaa", "00aa"),
        ("OCTET STRING(1..65535)", b"\xaa" * 300, "012b" + "aa" * 300),
        ("OCTET STRING", b"", "00"),
        ("OCTET STRING", b"\xaa" * 127, "7f" + "aa" * 127),
        ("OCTET STRING", b"\xaa" * 128, "8080" + "aa" * 128),
        ("OCTET STRING", b"\xaa" * 16383, "bfff" + "aa" * 16383),
        ("BIT STRING(32)", (1, 32), "00000001"),
        ("BIT STRING", (0b101, 3), "03a0"),
        ("BIT STRING", (0, 0), "00"),
        ("BIT STRING", ((1 << 64) + 3, 65), "41" + "8000000000000001" + "80"),
        ("BIT STRING(1..65535)", (1, 65535), "fffe" + "00" * 8191 + "02"),
        # clause 30: four bits a character where that is enough, in the order of the alphabet
        (f"IA5String(1..128){DIGITS}", "#*,0", "060123"),
        (f"IA5String(1..128){DIGITS}", "911", "04c440"),
        ("IA5String(1)[!#*0123456789ABCD]", "!", "21"),
        ("NumericString(1..16)[ 0123456789]", "0 9", "2010a0"),
        ("IA5String(1..64)", "alice", "10616c696365"),
        ("IA5String(1..64)", "caf\u00e9", "0c636166e9"),
        ("GeneralString", "x", "0178"),
        ("BMPString(1..128)", "\u00e9\u4e2d", "0200e94e2d"),
        ("BMPString(1..128)", "\U0001f514", "02d83ddd14"),
        ("BMPString", "", "00"),
        ("OBJECT IDENTIFIER", (0, 0, 8, 2250, 0, 7), "060008914a0007"),
        ("OBJECT IDENTIFIER", (2, 999, 3), "03883703"),
        ("OBJECT IDENTIFIER", (1, 39), "014f"),
        ("SEQUENCE OF BOOLEAN", [True, False, True], "03a0"),
        ("SEQUENCE(1..16) OF INTEGER(0..255)", [7], "0007"),
    ],
    ids=shown_id,
)
def test_octets(schema: Schema, text: str, value: Any, octets: str) -> None:
    assert codec(schema, text).encode(value).hex() == octets
    assert codec(schema, text).decode(bytes.fromhex(octets)) == value


@pytest.mark.parametrize(
    ("text", "octets", "reason"),
    [
        ("INTEGER(1..15)", "", "truncated"),
        ("INTEGER(1..15)", "f0", "16 is not in 1..15"),
        ("INTEGER(0..192)", "ff", "255 is not in"),
        ("INTEGER(0..262143)", "c0ffffffff", "longer than its bounds"),
        ("INTEGER(0..262143)", "80040000", "is not in"),
        ("INTEGER(0..262143)", "8003ff", "truncated"),
        ("INTEGER", "00", "number of 0 octets"),
        ("INTEGER", "41" + "01" * 65, "number of 65 octets"),
        ("INTEGER(1..MAX)", "00", "number of 0 octets"),
        ("INTEGER(0..16383,...)", "8000", "number of 0 octets"),
        ("OCTET STRING", "02aa", "truncated"),
        ("OCTET STRING", "80", "truncated"),
        ("OCTET STRING", "", "truncated"),
        ("OCTET STRING", "c1" + "00" * 16384, "fragmented"),
        ("OCTET STRING(16)", "00" * 15, "truncated"),
        ("OCTET STRING(1..20)", "a0" + "00" * 30, "21 is not in 1..20"),
        ("BIT STRING", "4100", "truncated"),
        ("BIT STRING(32)", "000000", "truncated"),
        (f"IA5String(1..128){DIGITS}", "04d000", "character besides"),
        ("IA5String(1)[!#*0123456789ABCD]", "5a", "characters besides"),
        ("BMPString(1..128)", "00d800", "not UTF-16"),
        ("BMPString(1..128)", "0061", "truncated"),
        ("OBJECT IDENTIFIER", "00", "not an object identifier"),
        ("OBJECT IDENTIFIER", "0188", "not an object identifier"),
        ("OBJECT IDENTIFIER", "41" + "01" * 65, "not an object identifier"),
        ("SEQUENCE OF BOOLEAN", "65" + "00" * 13, "more fields"),
        ("SEQUENCE OF OCTET STRING", "0201aa05", r"\[1\]: truncated"),
        ("BOOLEAN", "8001", "after the end"),
        ("H225.TransportAddress", "5000", "nsap: truncated"),
        ("H225.TransportAddress", "70", "no alternative number 7"),
        ("H225.TransportAddress", "f800", "extension number of 56 or more"),
        ("H225.ScreeningIndicator", "f800", "extension number of 56 or more"),
        ("H225.VendorIdentifier", "80b500013dfe", "extension number of 56 or more"),
    ],
    ids=shown_id,
)
def test_octets_that_do_not_fit(schema: Schema, text: str, octets: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        codec(schema, text).decode(bytes.fromhex(octets))


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("INTEGER(1..15)", 16, "16 is not in 1..15"),
        ("INTEGER(1..15)", 0, "0 is not in 1..15"),
        ("INTEGER(1..15)", True, "not an int: True"),
        ("INTEGER(1..15)", "1", "not an int: '1'"),
        ("INTEGER(1..4294967295)", 1 << 4999, "an int of 5000 bits is not in"),
        ("INTEGER", 1 << 600, "number of 76 octets"),
        ("INTEGER", 1.0, "not an int"),
        ("INTEGER(1..MAX)", 0, "is not in 1..MAX"),
        ("INTEGER(1..MAX)", 1 << 600, "longer than 64"),
        ("INTEGER(0..16383,...)", None, "not an int"),
        ("BOOLEAN", 1, "not a bool"),
        ("NULL", 0, "NULL is None, not 0"),
        ("OCTET STRING", "text", "not bytes: 'text'"),
        ("OCTET STRING", bytes(16384), "would need fragments"),
        ("OCTET STRING(16)", bytes(15), "size 15 is not 16"),
        ("OCTET STRING(1..4)", b"", "size 0 is not 1..4"),
        ("BIT STRING(32)", (0, 31), "size 31 is not 32"),
        ("BIT STRING", (8, 3), "8 does not fit 3 bits"),
        ("BIT STRING", (-1, 3), "does not fit"),
        ("BIT STRING", (0, 1 << 70), "would need fragments"),
        ("BIT STRING", b"", "not a tuple"),
        ("BIT STRING", (1, 2, 3), "not a tuple"),
        ("BIT STRING", (1, "2"), "not an int"),
        (f"IA5String(1..128){DIGITS}", "12a", "characters besides"),
        (f"IA5String(1..128){DIGITS}", "", "size 0 is not 1..128"),
        (f"IA5String(1..128){DIGITS}", 12, "not a str"),
        ("IA5String(1)[!#*0123456789ABCD]", "z", "characters besides"),
        ("IA5String(1..64)", "\u0416", "besides Latin-1"),
        ("IA5String(1..64)", b"alice", "not a str"),
        ("BMPString(1..128)", "\ud800", "not UTF-16"),
        ("BMPString(1..2)", "\U0001f514\U0001f514", "size 4 is not 1..2"),
        ("BMPString(1..128)", None, "not a str"),
        ("OBJECT IDENTIFIER", (1,), "not an object identifier"),
        ("OBJECT IDENTIFIER", (3, 1), "not an object identifier"),
        ("OBJECT IDENTIFIER", (1, 40), "not an object identifier"),
        ("OBJECT IDENTIFIER", (1, 3, -6), "not an object identifier"),
        ("OBJECT IDENTIFIER", (1, 3, 1 << 600), "object identifier of"),
        ("OBJECT IDENTIFIER", (1, 3, [4]), "not an int: a list"),
        ("OBJECT IDENTIFIER", "1.3.6", "not a tuple"),
        ("SEQUENCE OF BOOLEAN", {True}, "not a list"),
        ("SEQUENCE(1..16) OF BOOLEAN", [], "size 0 is not 1..16"),
        ("SEQUENCE OF BOOLEAN", [True, 2], r"\[1\]: not a bool"),
        ("SEQUENCE OF BOOLEAN", [True] * 16384, "would need fragments"),
        ("H225.ScreeningIndicator", "none", "no item 'none'"),
        ("H225.ScreeningIndicator", 3, "no item 3"),
        ("H225.ScreeningIndicator", "_ext_0x1", "no item"),
        ("H225.ScreeningIndicator", "_ext_56", "no item '_ext_56'"),
        ("H225.TransportAddress", {"ip": b""}, "not a tuple of name and value"),
        ("H225.TransportAddress", ("ipAddres", {}), "ipAddres: no such alternative"),
        ("H225.TransportAddress", (1, 2), "1: no such alternative"),
        ("H225.TransportAddress", ("_ext_3", "text"), "_ext_3: not bytes"),
        ("H225.TransportAddress", ("_ext_56", b""), "no such alternative"),
        ("H225.TransportAddress", ("ipAddress", {"ip": bytes(4)}), "ipAddress: field port is missing"),
        ("H225.TransportAddress", ("ipAddress", {"ip": bytes(4), "port": 1, "host": ""}), "ipAddress: no field 'host'"),
        ("H225.TransportAddress", ("ipAddress", {"ip": bytes(4), "port": 1, "_ext_0": b""}), "no field '_ext_0'"),
        ("H225.TransportAddress", ("ipAddress", [4]), "ipAddress: not a dict"),
        (
            "H225.AliasAddress",
            ("transportID", ("ipAddress", {"ip": bytes(4), "port": -1})),
            "transportID.ipAddress.port: -1 is not in",
        ),
    ],
    ids=shown_id,
)
def test_values_that_do_not_fit(schema: Schema, text: str, value: Any, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason):
        codec(schema, text).encode(value)


def test_bytearrays_are_taken_for_bytes(schema: Schema) -> None:
    octets = codec(schema, "OCTET STRING").encode(bytearray(b"ab"))
    for data in (octets, bytearray(octets), memoryview(octets)):
        assert codec(schema, "OCTET STRING").decode(data) == b"ab"


def test_alignment_after_bits(schema: Schema) -> None:
    # clause 11.2.6 and 17.6: after the preamble of an odd number of bits, 2 octets are not aligned, longer ones are
    value = {"node": bytes(6), "netnum": bytes(4), "port": b"\x01\x02"}
    assert codec(schema, "H225.TransportAddress").encode(("ipxAddress", value)).hex() == "20" + "00" * 10 + "0102"


def test_no_alignment_before_no_characters(schema: Schema) -> None:
    # clause 11.9.3.3 note 2: after 6 bits of length 0, which end within an octet in the second number, nothing is added
    number = {"networkAddress": "", "networkType": [("n-isdn", None)]}
    value = ("differential", [number, number])
    octets = bytes.fromhex("20 0001" + "00 00" + "20 00 04")
    assert codec(schema, "H245.DialingInformation").encode(value) == octets
    assert codec(schema, "H245.DialingInformation").decode(octets) == value


def test_the_message_names_the_field(schema: Schema) -> None:
    ras = schema.codec("H225.RasMessage", max_octets=8192, max_items=1000)
    with pytest.raises(EncodeError, match=r"^unregistrationConfirm\.requestSeqNum: 70000 is not in 1\.\.65535$"):
        ras.encode(("unregistrationConfirm", {"requestSeqNum": 70000}))
    with pytest.raises(EncodeError, match=r"^unregistrationConfirm\.tokens\[1\]\.tokenOID: not a tuple"):
        ras.encode(("unregistrationConfirm", {"requestSeqNum": 7, "tokens": [{"tokenOID": (1, 3)}, {"tokenOID": "1.3"}]}))
    octets = ras.encode(("unregistrationConfirm", {"requestSeqNum": 7, "tokens": [{"tokenOID": (1, 3), "challenge": bytes(8)}]}))
    with pytest.raises(DecodeError, match=r"^unregistrationConfirm\.tokens: truncated$"):
        ras.decode(octets[:-1])
