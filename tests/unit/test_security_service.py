"""What the service signs: the RCF that opens a session, and the token for a direct call."""

from dataclasses import replace

import pytest
from security_samples import (
    ARQ,
    CHALLENGE,
    DRQ,
    ENDPOINT,
    GUARDIAN,
    OTHER,
    RCF,
    RRQ,
    SERVICE,
    TERMINAL_ID,
    accepted_bit_flips,
    with_fields,
)

from gatekeeperd.errors import EncodeError, SecurityError
from gatekeeperd.security.credential import Claims, read_credential, sign_message
from gatekeeperd.security.oids import SERVICE as SERVICE_OID
from gatekeeperd.security.service import CallToken, accept_session, open_session, sign_call_token, verify_call_token
from gatekeeperd.security.session import Direction, Exchange, check, protect
from gatekeeperd.security.tokens import find_token, token_data, with_tokens
from gatekeeperd.wire.h225 import decode_ras, encode_ras

EXCHANGE = Exchange.generate()
REQUEST = sign_message(RRQ, Claims(TERMINAL_ID), GUARDIAN, CHALLENGE, key_exchange=EXCHANGE.public)


def opened(confirm=RCF, request=REQUEST, key=SERVICE, epoch=7, terminal_exchange=EXCHANGE.public):
    return open_session(confirm, request=request, terminal_exchange=terminal_exchange, key=key, epoch=epoch, challenge=CHALLENGE)


def accept(pdu, message=None, request=REQUEST, exchange=EXCHANGE, service_key=SERVICE.public):
    message = decode_ras(pdu) if message is None else message
    return accept_session(pdu, message, request=request, exchange=exchange, service_key=service_key)


def test_both_sides_hold_the_same_session():
    credential = read_credential(decode_ras(REQUEST))
    pdu, session = opened(terminal_exchange=credential.key_exchange)
    assert accept(pdu) == session
    assert (session.challenge, session.epoch, len(session.key)) == (CHALLENGE, 7, 32)
    sent = protect(DRQ, session, 1, Direction.TO_GATEKEEPER)
    assert check(sent, decode_ras(sent), accept(pdu), Direction.TO_GATEKEEPER) == 1


def test_no_bit_of_the_confirm_can_change():
    pdu, _ = opened()
    assert accepted_bit_flips(pdu, accept) == []


@pytest.mark.parametrize(
    "changed",
    [{"endpointIdentifier": "f" * 32}, {"timeToLive": 121}, {"callSignalAddress": []}, {"alternateGatekeeper": []}],
    ids=lambda changed: next(iter(changed)),
)
def test_the_whole_confirm_is_signed(changed):
    message = decode_ras(opened()[0])
    with pytest.raises(SecurityError, match="signature does not hold"):
        accept(encode_ras(with_fields(message, **changed)))


def test_a_confirm_of_another_request_is_refused():
    other = sign_message(RRQ, Claims(TERMINAL_ID), GUARDIAN, bytes(32), key_exchange=EXCHANGE.public)
    with pytest.raises(SecurityError, match="another request"):
        accept(opened()[0], request=other)


def test_a_confirm_that_another_key_signed_is_refused():
    with pytest.raises(SecurityError, match="another key"):
        accept(opened(key=OTHER)[0])
    forged = opened(key=OTHER)[0].replace(OTHER.key_id, SERVICE.key_id)
    with pytest.raises(SecurityError, match="signature does not hold"):
        accept(forged)


def test_an_unsigned_confirm_is_refused():
    with pytest.raises(SecurityError, match="not signed"):
        accept(encode_ras(RCF))


def test_the_token_in_another_message_is_refused():
    token = find_token(decode_ras(opened()[0]), SERVICE_OID)
    for message, complaint in (
        (with_tokens(DRQ, token), "not signed"),
        (with_tokens(RCF, {**token, "challenge": bytes(32)}), "does not hold"),
    ):
        with pytest.raises(SecurityError, match=complaint):
            accept(encode_ras(message))


def test_a_token_without_its_challenge_is_refused():
    token = find_token(decode_ras(opened()[0]), SERVICE_OID)
    del token["challenge"]
    with pytest.raises(SecurityError, match="32 octets"):
        accept(encode_ras(with_tokens(RCF, token)))


def test_token_octets_twice_in_the_message_are_refused():
    message = decode_ras(opened()[0])
    data = token_data(find_token(message, SERVICE_OID), SERVICE_OID)
    twice = with_fields(message, nonStandardData={"nonStandardIdentifier": ("object", SERVICE_OID), "data": data})
    with pytest.raises(SecurityError, match="more than once"):
        accept(encode_ras(twice))


def test_a_terminal_key_of_small_order_opens_nothing():
    with pytest.raises(SecurityError, match="small order"):
        opened(terminal_exchange=bytes(32))


@pytest.mark.parametrize(
    "other",
    [{"epoch": 8}, {"confirm": with_fields(RCF, endpointIdentifier="f" * 32)}, {"confirm": with_fields(RCF, timeToLive=60)}],
    ids=["epoch", "endpoint", "confirm"],
)
def test_the_session_key_is_of_this_exchange_alone(other, monkeypatch):
    monkeypatch.setattr(Exchange, "generate", staticmethod(lambda: EXCHANGE))
    _, session = opened()
    assert opened()[1] == session
    assert opened(**other)[1].key != session.key
    assert opened(request=REQUEST + b"\x00")[1].key != session.key


# Tokens for direct calls.

CALL = CallToken(bytes(range(16, 32)), TERMINAL_ID, ENDPOINT, 1_800_000_000)


def verify(message, key=SERVICE.public, call_identifier=CALL.call_identifier, callee=ENDPOINT, wall=1_799_999_999.0):
    return verify_call_token(message, key, call_identifier=call_identifier, callee_endpoint_identifier=callee, wall=wall)


def test_a_call_token_survives_the_wire():
    message = decode_ras(encode_ras(with_tokens(ARQ, sign_call_token(CALL, SERVICE))))
    assert verify(message) == CALL
    assert verify(message, wall=1_800_000_000) == CALL


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"call_identifier": bytes(16)}, "another call"),
        ({"callee": "f" * 32}, "another call"),
        ({"wall": 1_800_000_001}, "out of date"),
        ({"key": OTHER.public}, "another key"),
    ],
)
def test_a_call_token_is_good_for_one_call_only(arguments, complaint):
    with pytest.raises(SecurityError, match=complaint):
        verify(with_tokens(ARQ, sign_call_token(CALL, SERVICE)), **arguments)


def test_a_message_without_a_call_token_has_none():
    with pytest.raises(SecurityError, match="no call token"):
        verify(ARQ)


def test_no_bit_of_a_call_token_can_change():
    token = sign_call_token(CALL, SERVICE)
    data = token["nonStandard"]["data"]
    for bit in range(len(data) * 8):
        flipped = (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")
        forged = {**token, "nonStandard": {**token["nonStandard"], "data": flipped}}
        with pytest.raises(SecurityError):
            verify(with_tokens(ARQ, forged))


def test_a_call_token_out_of_bounds_is_an_error_of_the_signer():
    with pytest.raises(EncodeError, match="callIdentifier"):
        sign_call_token(replace(CALL, call_identifier=b""), SERVICE)
