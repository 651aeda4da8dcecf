"""Session key and session MAC: published vectors, and no message passes that is not exactly the one that was sent."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from security_samples import ARQ, CHALLENGE, DRQ, SESSION, accepted_bit_flips, with_fields

from gatekeeperd.errors import SecurityError
from gatekeeperd.security.challenge import Challenger
from gatekeeperd.security.oids import SESSION_MAC
from gatekeeperd.security.replay import WINDOW, ReplayWindow, SeenOnce
from gatekeeperd.security.session import (
    MAX_COUNTER,
    Direction,
    Exchange,
    check,
    hkdf_sha256,
    protect,
    read_mac,
    renewed,
)
from gatekeeperd.security.tokens import clear_token, with_tokens
from gatekeeperd.wire.h225 import decode_ras, encode_ras

UP, DOWN = Direction.TO_GATEKEEPER, Direction.TO_TERMINAL


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "okm"),
    [
        # RFC 5869 appendix A.1, A.2, A.3.
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (b"\x0b" * 22, b"", b"", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
)
def test_hkdf_of_rfc_5869(ikm, salt, info, okm):
    expected = bytes.fromhex(okm)
    assert hkdf_sha256(ikm, salt=salt, info=info, length=len(expected)) == expected


def test_x25519_of_rfc_7748():
    # Section 5.2, first vector.
    exchange = Exchange(bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"), b"")
    peer = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    assert exchange.shared_with(peer).hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


def test_fresh_exchanges_agree_and_differ():
    one, other = Exchange.generate(), Exchange.generate()
    assert one.shared_with(other.public) == other.shared_with(one.public)
    assert one.private != other.private


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_of_small_order_is_refused(point):
    with pytest.raises(SecurityError, match="small order"):
        Exchange.generate().shared_with(point)


def test_secrets_do_not_show():
    exchange = Exchange.generate()
    assert SESSION.key.hex() not in repr(SESSION)
    assert repr(SESSION.key) not in repr(SESSION)
    assert repr(exchange.private) not in repr(exchange)


@given(st.sampled_from([ARQ, DRQ]), st.integers(1, MAX_COUNTER), st.sampled_from(Direction))
def test_a_protected_message_checks_and_says_its_counter(message, counter, direction):
    pdu = protect(message, SESSION, counter, direction)
    decoded = decode_ras(pdu)
    assert check(pdu, decoded, SESSION, direction) == counter
    assert with_fields(decoded, tokens=[])[1] == with_fields(message, tokens=[])[1]


def test_other_tokens_stay_before_it():
    other = clear_token((1, 2, 3), b"other")
    pdu = protect(with_tokens(DRQ, other), SESSION, 1, UP)
    assert decode_ras(pdu)[1]["tokens"][0] == other
    assert check(pdu, decode_ras(pdu), SESSION, UP) == 1


def test_no_bit_can_change():
    pdu = protect(DRQ, SESSION, 2**32 + 1, DOWN)
    assert accepted_bit_flips(pdu, lambda pdu, message: check(pdu, message, SESSION, DOWN)) == []


@pytest.mark.parametrize(
    ("session", "direction"),
    [
        (SESSION, DOWN),
        (replace(SESSION, key=bytes(32)), UP),
        (renewed(SESSION, CHALLENGE), UP),
    ],
    ids=["sent back to its sender", "another endpoint's key", "an older challenge"],
)
def test_no_other_session_takes_it(session, direction):
    pdu = protect(DRQ, SESSION, 5, UP)
    with pytest.raises(SecurityError, match="does not hold"):
        check(pdu, decode_ras(pdu), session, direction)


def test_a_mac_moved_to_another_message_fails():
    token = decode_ras(protect(DRQ, SESSION, 5, UP))[1]["tokens"][0]
    moved = encode_ras(with_tokens(ARQ, token))
    with pytest.raises(SecurityError, match="does not hold"):
        check(moved, decode_ras(moved), SESSION, UP)


def test_octets_behind_the_message_fail():
    pdu = protect(DRQ, SESSION, 5, UP) + b"\x00"
    with pytest.raises(SecurityError, match="does not hold"):
        check(pdu, decode_ras(pdu), SESSION, UP)


def test_a_message_without_a_mac_fails():
    assert read_mac(DRQ) is None
    with pytest.raises(SecurityError, match="carries no session MAC"):
        check(encode_ras(DRQ), DRQ, SESSION, UP)


@pytest.mark.parametrize("data", [b"", bytes(40), bytes(41), b"\x02" + bytes(40), b"\x01" + bytes(41)])
def test_a_malformed_mac_fails(data):
    message = with_tokens(DRQ, clear_token(SESSION_MAC, data))
    with pytest.raises(SecurityError, match="not of our version"):
        check(encode_ras(message), message, SESSION, UP)


def test_a_mac_that_stands_twice_in_the_message_fails():
    message = decode_ras(protect(DRQ, SESSION, 5, UP))
    twice = with_fields(message, nonStandardData={"nonStandardIdentifier": ("object", SESSION_MAC), "data": read_mac(message)})
    with pytest.raises(SecurityError, match="more than once"):
        check(encode_ras(twice), twice, SESSION, UP)
    with pytest.raises(SecurityError, match="twice"):
        check(b"", with_tokens(message, message[1]["tokens"][0]), SESSION, UP)


@pytest.mark.parametrize("counter", [0, -1, MAX_COUNTER + 1])
def test_counters_end(counter):
    with pytest.raises(SecurityError, match="run out"):
        protect(DRQ, SESSION, counter, UP)


# What was accepted once.


@given(st.lists(st.integers(0, 300) | st.integers(2**64 - 70, 2**64 - 1), max_size=200))
def test_the_window_takes_each_counter_once_and_none_too_far_behind(counters):
    window, taken = ReplayWindow(), set()
    for counter in counters:
        expected = counter > 0 and counter not in taken and counter > max(taken, default=0) - WINDOW
        assert window.accept(counter) is expected
        if expected:
            taken.add(counter)


def test_the_window_lets_udp_reorder():
    window = ReplayWindow()
    assert [window.accept(counter) for counter in (64, 1, 2, 63, 64, 65, 1, 66, 2, 3)] == [True] * 4 + [
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_nonce_is_taken_once_for_as_long_as_it_can_come():
    seen = SeenOnce(lifetime_s=60)
    assert seen.accept("alice", "n", 1000.0)
    assert not seen.accept("alice", "n", 1060.0)
    assert seen.accept("bob", "n", 1000.0)
    assert seen.accept("alice", "n", 1060.5)


def test_a_nonce_outlives_the_cookie_that_it_was_in():
    challenger, seen = Challenger(bytes(32), "council"), SeenOnce()
    source, made = ("192.0.2.1", 1719), 0.0009
    challenge = challenger.make(source, made)
    assert seen.accept("alice", challenge, made)
    # Truncated to milliseconds the cookie is 60 s old, and still good.
    challenger.check(challenge, source, 60.00095)
    assert not seen.accept("alice", challenge, 60.00095)


def test_a_clock_that_steps_back_makes_nothing_new_again():
    seen = SeenOnce(lifetime_s=60)
    assert seen.accept("alice", "n", 1000.0)
    assert not seen.accept("alice", "n", 100.0)


def test_who_fills_its_room_costs_nobody_else():
    seen = SeenOnce(lifetime_s=60, per_owner=3)
    assert [seen.accept("alice", n, 1000.0) for n in range(5)] == [True, True, True, False, False]
    assert seen.accept("bob", 0, 1000.0)
    assert not seen.accept("alice", 0, 1001.0)
    assert seen.accept("alice", 9, 1061.0)
