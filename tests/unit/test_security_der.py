"""The strict DER reader against pyasn1: both read and write the same, and nothing but DER is taken."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyasn1.codec.der import decoder, encoder
from pyasn1.type import constraint, namedtype, univ
from security_samples import GUARDIAN

from gatekeeperd.errors import EncodeError, SecurityError
from gatekeeperd.security import der
from gatekeeperd.security.credential import (
    CallType,
    Claims,
    CredentialSchema,
    decode_credential,
    encode_credential,
)
from gatekeeperd.security.service import CallTokenSchema, ServiceSchema

NAMES = st.text(st.characters(codec="utf-8"), max_size=128)
CLAIMS = st.builds(
    Claims,
    terminal_id=NAMES.filter(bool),
    call_id=NAMES,
    call_type=st.sampled_from(CallType),
    has_pii=st.booleans(),
    bandwidth_bps=st.integers(0, (2**32 - 1) * 100),
    counter=st.integers(0, 2**64 - 1),
)
SAMPLE = encode_credential(
    Claims("if://guardian/a", "c", CallType.EMERGENCY, True, 640000, 300), GUARDIAN.key_id, bytes(32), bytes(64)
)
MEMBERS = (
    "version",
    "keyId",
    "terminalId",
    "callId",
    "callType",
    "hasPii",
    "bandwidthBps",
    "counter",
    "keyExchange",
    "signature",
)


def by_pyasn1(claims, key_id, key_exchange, signature):
    schema = CredentialSchema()
    values = (
        1,
        key_id,
        claims.terminal_id,
        claims.call_id,
        int(claims.call_type),
        claims.has_pii,
        claims.bandwidth_bps,
        claims.counter,
        key_exchange,
        signature,
    )
    for name, value in zip(MEMBERS, values, strict=True):
        if value is not None:
            schema[name] = value
    return encoder.encode(schema)


@given(
    CLAIMS,
    st.binary(min_size=8, max_size=8),
    st.none() | st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
)
def test_agrees_with_pyasn1_both_ways(claims, key_id, key_exchange, signature):
    encoded = encode_credential(claims, key_id, key_exchange, signature)
    assert encoded == by_pyasn1(claims, key_id, key_exchange, signature)
    read = decode_credential(encoded)
    assert (read.claims, read.key_id, read.key_exchange, read.signature) == (claims, key_id, key_exchange, signature)
    oracle, rest = decoder.decode(encoded, asn1Spec=CredentialSchema())
    assert not rest
    assert (str(oracle["terminalId"]), int(oracle["counter"])) == (claims.terminal_id, claims.counter)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.booleans())
@example(1, 0x81, True)
def test_one_value_has_one_encoding(at, octet, insert):
    mutated = SAMPLE[:at] + bytes((octet,)) + SAMPLE[at + (not insert) :]
    try:
        read = decode_credential(mutated)
    except SecurityError:
        return
    assert by_pyasn1(read.claims, read.key_id, read.key_exchange, read.signature) == mutated


@given(st.binary(max_size=300))
def test_octets_at_random_are_refused(octets):
    with pytest.raises(SecurityError):
        decode_credential(octets)


@pytest.mark.parametrize("length", range(len(SAMPLE)))
def test_every_cut_is_refused(length):
    with pytest.raises(SecurityError):
        decode_credential(SAMPLE[:length])


class Small(univ.Sequence):
    componentType = namedtype.NamedTypes(  # noqa: N815
        namedtype.NamedType("number", univ.Integer().subtype(subtypeSpec=constraint.ValueRangeConstraint(0, 1000))),
        namedtype.NamedType("flag", univ.Boolean()),
        namedtype.NamedType("octets", univ.OctetString().subtype(subtypeSpec=constraint.ValueSizeConstraint(2, 2))),
    )


SMALL = der.table(Small())


def test_the_sample_for_the_refusals_below_is_taken():
    assert der.decode(SMALL, bytes.fromhex("300b 020203e8 0101ff 0402abcd".replace(" ", ""))) == (1000, True, b"\xab\xcd")


@pytest.mark.parametrize(
    ("fault", "octets"),
    [
        ("indefinite length", "3080 020203e8 0101ff 0402abcd 0000"),
        ("long form of a short length", "30810b 020203e8 0101ff 0402abcd"),
        ("two length octets for one", "3082000b 020203e8 0101ff 0402abcd"),
        ("more length octets than anything of ours needs", "308300000b 020203e8 0101ff 0402abcd"),
        ("long form inside", "300c 02810203e8 0101ff 0402abcd"),
        ("reserved length octet", "30ff 020203e8 0101ff 0402abcd"),
        ("integer with a leading zero octet", "300c 02030003e8 0101ff 0402abcd"),
        ("integer without octets", "3009 0200 0101ff 0402abcd"),
        ("negative integer", "300a 0201ff 0101ff 0402abcd"),
        ("integer out of bounds", "300b 020203e9 0101ff 0402abcd"),
        ("TRUE that is not FF", "300b 020203e8 010101 0402abcd"),
        ("BOOLEAN of two octets", "300c 020203e8 0102ffff 0402abcd"),
        ("constructed OCTET STRING", "300d 020203e8 0101ff 24040402abcd"),
        ("OCTET STRING too short", "300a 020203e8 0101ff 0401ab"),
        ("OCTET STRING too long", "300c 020203e8 0101ff 0403abcdef"),
        ("member missing", "3007 020203e8 0101ff"),
        ("members swapped", "300b 0101ff 020203e8 0402abcd"),
        ("member too many", "300d 020203e8 0101ff 0402abcd 0500"),
        ("octets behind", "300b 020203e8 0101ff 0402abcd 00"),
        ("member longer than the SEQUENCE", "300b 020203e8 0101ff 0403abcd"),
        ("SET instead of SEQUENCE", "310b 020203e8 0101ff 0402abcd"),
        ("nothing", ""),
    ],
)
def test_refuses_what_is_not_der(fault, octets):
    with pytest.raises(SecurityError):
        der.decode(SMALL, bytes.fromhex(octets))


def test_refuses_names_that_are_not_utf8():
    assert SAMPLE.count(b"if://guardian/a") == 1
    with pytest.raises(SecurityError, match="UTF-8"):
        decode_credential(SAMPLE.replace(b"if://guardian/a", b"if://guardian/\xff"))


def test_refuses_more_octets_than_anything_of_ours_has():
    with pytest.raises(SecurityError, match="longer"):
        der.decode(SMALL, bytes.fromhex("3082ffff") + bytes(0xFFFF))


@pytest.mark.parametrize(
    "claims",
    [Claims(""), Claims("x" * 129), Claims("x", call_id="x" * 129), Claims("x", bandwidth_bps=-1), Claims("x", counter=2**64)],
)
def test_claims_out_of_bounds_are_not_written(claims):
    with pytest.raises(EncodeError):
        encode_credential(claims, bytes(8), None, bytes(64))


def test_a_key_exchange_of_another_length_is_not_written():
    with pytest.raises(EncodeError, match="keyExchange"):
        encode_credential(Claims("x"), bytes(8), bytes(31), bytes(64))


@pytest.mark.parametrize("schema", [CredentialSchema, ServiceSchema, CallTokenSchema])
def test_every_schema_has_a_signature_of_64_octets_last(schema):
    last = der.table(schema())[-1]
    assert (last.name, last.identifier, last.lower, last.upper) == ("signature", 0x04, 64, 64)
