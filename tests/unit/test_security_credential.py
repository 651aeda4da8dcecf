"""The credential: it verifies as sent, and not when anything that it covers is another."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from security_samples import (
    ADDRESS,
    ARQ,
    CHALLENGE,
    DRQ,
    GUARDIAN,
    OTHER,
    RRQ,
    SESSION,
    TERMINAL_ID,
    accepted_bit_flips,
    with_fields,
)

from gatekeeperd.errors import EncodeError, SecurityError
from gatekeeperd.security.credential import CallType, Claims, encode_credential, read_credential, sign_message, verify_credential
from gatekeeperd.security.oids import CREDENTIAL, SESSION_MAC
from gatekeeperd.security.session import Direction, Exchange, check
from gatekeeperd.security.tokens import challenge_token, clear_token, octets_of, read_challenge, with_tokens
from gatekeeperd.wire.h225 import decode_ras, encode_ras

CLAIMS = Claims(TERMINAL_ID, "call-1", CallType.ESCALATE, has_pii=False, bandwidth_bps=768_000, counter=41)


def verify(pdu, message=None, key=GUARDIAN.public, challenge=SESSION.challenge):
    message = decode_ras(pdu) if message is None else message
    credential = read_credential(message)
    if credential is None:
        raise SecurityError("none")
    verify_credential(pdu, message, credential, key, challenge)
    return credential


def signed_arq(**options):
    return sign_message(ARQ, CLAIMS, GUARDIAN, SESSION.challenge, session=SESSION, **options)


def test_an_admission_request_carries_claims_signature_and_mac():
    pdu = signed_arq()
    credential = verify(pdu)
    assert credential.claims == CLAIMS
    assert credential.key_id == GUARDIAN.key_id
    assert credential.key_exchange is None
    assert check(pdu, decode_ras(pdu), SESSION, Direction.TO_GATEKEEPER) == CLAIMS.counter


def test_a_registration_carries_the_key_exchange_and_echoes_the_challenge():
    exchange = Exchange.generate()
    message = with_tokens(RRQ, challenge_token(CHALLENGE))
    pdu = sign_message(message, Claims(TERMINAL_ID), GUARDIAN, CHALLENGE, key_exchange=exchange.public)
    assert verify(pdu, challenge=CHALLENGE).key_exchange == exchange.public
    assert read_challenge(decode_ras(pdu)) == CHALLENGE


@given(
    st.builds(
        Claims,
        terminal_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
        call_id=st.text(st.characters(codec="utf-8"), max_size=128),
        call_type=st.sampled_from(CallType),
        has_pii=st.booleans(),
        bandwidth_bps=st.integers(0, 2**38),
        counter=st.integers(1, 2**64 - 1),
    )
)
def test_any_claims_survive(claims):
    pdu = sign_message(ARQ, claims, GUARDIAN, SESSION.challenge, session=SESSION)
    assert verify(pdu).claims == claims


def test_a_message_without_a_credential_has_none():
    assert read_credential(DRQ) is None
    assert read_credential(("admissionConfirmSequence", [])) is None


def test_no_bit_of_a_signed_and_maced_message_can_change():
    def both(pdu, message):
        verify(pdu, message)
        check(pdu, message, SESSION, Direction.TO_GATEKEEPER)

    assert accepted_bit_flips(signed_arq(), both) == []


def test_no_bit_of_a_signed_registration_can_change():
    pdu = sign_message(RRQ, Claims(TERMINAL_ID), GUARDIAN, CHALLENGE, key_exchange=bytes(range(32)))
    assert accepted_bit_flips(pdu, lambda pdu, message: verify(pdu, message, challenge=CHALLENGE)) == []


# Each field of the signature input by itself: the octets, and so their digest, are the signed ones here.


@pytest.mark.parametrize(
    "fields",
    [
        {"requestSeqNum": 78},
        {"gatekeeperIdentifier": "another"},
        {"endpointIdentifier": "f" * 32},
        {"callIdentifier": {"guid": bytes(16)}},
        {"answerCall": True},
        {"destinationInfo": [("dialledDigits", "4420999889")]},
        {"destinationInfo": [("h323-ID", "4420999888")]},
        {"destinationInfo": []},
        {"destCallSignalAddress": ADDRESS},
        {"rasAddress": [ADDRESS]},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_each_signed_field_counts(fields):
    pdu = signed_arq()
    message = decode_ras(pdu)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu, with_fields(message, **fields))


@pytest.mark.parametrize(
    "name", ["gatekeeperIdentifier", "endpointIdentifier", "callIdentifier", "destinationInfo", "destCallSignalAddress"]
)
def test_each_signed_field_counts_when_it_is_gone(name):
    pdu = signed_arq()
    message = decode_ras(pdu)
    fields = {other: value for other, value in message[1].items() if other != name}
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu, (message[0], fields))


def test_the_ras_address_of_a_registration_counts():
    pdu = sign_message(RRQ, Claims(TERMINAL_ID), GUARDIAN, CHALLENGE)
    message = decode_ras(pdu)
    verify(pdu, message, challenge=CHALLENGE)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu, with_fields(message, rasAddress=[("ipAddress", {"ip": bytes(4), "port": 1719})]), challenge=CHALLENGE)


def test_the_message_type_counts():
    pdu = signed_arq()
    _, fields = decode_ras(pdu)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu, ("bandwidthRequest", fields))


@pytest.mark.parametrize(
    "claims",
    [
        replace(CLAIMS, terminal_id="if://guardian/technicax"),
        replace(CLAIMS, call_id="call-2"),
        replace(CLAIMS, call_type=CallType.EMERGENCY),
        replace(CLAIMS, has_pii=True),
        replace(CLAIMS, bandwidth_bps=896_000),
        replace(CLAIMS, counter=42),
    ],
    ids=str,
)
def test_each_claim_counts(claims):
    pdu = signed_arq()
    credential = verify(pdu)
    forged = encode_credential(claims, credential.key_id, None, credential.signature)
    # Of the same length, so that nothing but the claim differs.
    assert len(forged) == len(credential.encoded)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu.replace(credential.encoded, forged))


def test_the_key_exchange_counts():
    pdu = sign_message(RRQ, Claims(TERMINAL_ID), GUARDIAN, CHALLENGE, key_exchange=bytes(32))
    credential = verify(pdu, challenge=CHALLENGE)
    forged = encode_credential(credential.claims, credential.key_id, bytes(31) + b"\x01", credential.signature)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu.replace(credential.encoded, forged), challenge=CHALLENGE)


def test_another_challenge_makes_it_a_replay():
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(signed_arq(), challenge=CHALLENGE)


@pytest.mark.parametrize(
    "fields", [{"bandWidth": 7681}, {"srcInfo": [("h323-ID", "mallory")]}, {"callReferenceValue": 4712}, {"canMapAlias": False}]
)
def test_what_no_field_names_is_covered_by_the_digest(fields):
    message = decode_ras(signed_arq())
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(encode_ras(with_fields(message, **fields)))


def test_a_credential_moved_to_another_message_fails():
    token = next(token for token in decode_ras(signed_arq())[1]["tokens"] if token["tokenOID"] == CREDENTIAL)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(encode_ras(with_tokens(DRQ, token)))


def test_another_key_than_the_registrys_fails():
    pdu = signed_arq()
    with pytest.raises(SecurityError, match="another key"):
        verify(pdu, key=OTHER.public)
    # An attacker who writes the right key id must still hold the key.
    forged = sign_message(ARQ, CLAIMS, OTHER, SESSION.challenge)
    forged = forged.replace(OTHER.key_id, GUARDIAN.key_id)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(forged)


def test_octets_behind_the_message_fail():
    pdu = signed_arq()
    assert decode_ras(pdu + b"\x00") == decode_ras(pdu)
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(pdu + b"\x00", decode_ras(pdu))


# Where the token is must be beyond doubt.


def test_token_octets_twice_in_the_message_are_refused():
    pdu = signed_arq()
    message = decode_ras(pdu)
    credential = read_credential(message)
    twice = encode_ras(
        with_fields(message, nonStandardData={"nonStandardIdentifier": ("object", CREDENTIAL), "data": credential.encoded})
    )
    with pytest.raises(SecurityError, match="more than once"):
        verify(twice)


def test_two_credentials_are_refused():
    message = decode_ras(signed_arq())
    token = next(token for token in message[1]["tokens"] if token["tokenOID"] == CREDENTIAL)
    with pytest.raises(SecurityError, match="twice"):
        read_credential(with_tokens(message, token))


def test_token_octets_that_are_not_in_the_message_are_refused():
    pdu = signed_arq()
    other = sign_message(ARQ, replace(CLAIMS, counter=99), GUARDIAN, SESSION.challenge)
    with pytest.raises(SecurityError, match="not in the message"):
        verify_credential(pdu, decode_ras(pdu), verify(other), GUARDIAN.public, SESSION.challenge)


def test_a_malformed_mac_token_beside_it_is_refused():
    pdu = sign_message(with_tokens(ARQ, clear_token(SESSION_MAC, b"\x01short")), CLAIMS, GUARDIAN, SESSION.challenge)
    with pytest.raises(SecurityError, match="not of our version"):
        verify(pdu)


def test_a_token_without_data_is_refused():
    with pytest.raises(SecurityError, match="no data"):
        read_credential(with_tokens(ARQ, {"tokenOID": CREDENTIAL}))
    with pytest.raises(SecurityError, match="no data"):
        read_credential(with_tokens(ARQ, {**clear_token(SESSION_MAC, b"x"), "tokenOID": CREDENTIAL}))


def test_a_challenge_of_another_length_is_refused():
    with pytest.raises(SecurityError, match="32 octets"):
        read_challenge(with_tokens(RRQ, challenge_token(bytes(31))))
    assert read_challenge(RRQ) is None


def test_claims_out_of_bounds_are_an_error_of_the_signer():
    with pytest.raises(EncodeError, match="bandwidthBps"):
        sign_message(ARQ, replace(CLAIMS, bandwidth_bps=-1), GUARDIAN, CHALLENGE)


def test_signing_leaves_the_callers_message_alone():
    before = copy.deepcopy(ARQ)
    signed_arq()
    assert before == ARQ


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(st.text(max_size=3), inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def typed(value):
    """Tell apart what == does not: True and 1."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, dict):
        return dict, {name: typed(item) for name, item in value.items()}
    return type(value), value


@given(VALUES, VALUES)
def test_different_values_have_different_octets(one, other):
    assert (octets_of(one) == octets_of(other)) == (typed(one) == typed(other))


def test_the_order_of_members_does_not_count():
    assert octets_of({"ip": b"x", "port": 1}) == octets_of({"port": 1, "ip": b"x"})


def test_a_value_of_no_codec_has_no_octets():
    with pytest.raises(TypeError):
        octets_of(1.5)
