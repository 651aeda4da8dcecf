"""The challenge cookie: good for the source that asked, for 60 s, at the gatekeeper that made it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.errors import SecurityError
from gatekeeperd.security.challenge import LIFETIME_S, Challenger

SOURCE = ("192.0.2.1", 1719)
CHALLENGER = Challenger(bytes(range(32)), "council")
NOW = 12345.678


@pytest.mark.parametrize("source", [SOURCE, ("2001:db8::1", 65535)])
@pytest.mark.parametrize("age", [0.0, 0.5, LIFETIME_S])
def test_is_good_for_its_source_and_time(source, age):
    challenge = CHALLENGER.make(source, NOW)
    assert len(challenge) == 32
    CHALLENGER.check(challenge, source, NOW + age)


@pytest.mark.parametrize("source", [("192.0.2.2", 1719), ("192.0.2.1", 1720), ("::ffff:192.0.2.1", 1719)])
def test_is_no_good_for_another_source(source):
    with pytest.raises(SecurityError, match="not ours"):
        CHALLENGER.check(CHALLENGER.make(SOURCE, NOW), source, NOW)


@pytest.mark.parametrize("age", [-0.1, LIFETIME_S + 0.1, 1e9])
def test_is_no_good_before_or_after_its_time(age):
    with pytest.raises(SecurityError, match="60 s"):
        CHALLENGER.check(CHALLENGER.make(SOURCE, NOW), SOURCE, NOW + age)


@pytest.mark.parametrize("other", [Challenger(bytes(32), "council"), Challenger(bytes(range(32)), "another")])
def test_is_no_good_at_another_gatekeeper_or_after_a_restart(other):
    with pytest.raises(SecurityError, match="not ours"):
        other.check(CHALLENGER.make(SOURCE, NOW), SOURCE, NOW)


def test_no_bit_can_change():
    challenge = CHALLENGER.make(SOURCE, NOW)
    for bit in range(256):
        flipped = int.from_bytes(challenge, "big") ^ 1 << bit
        with pytest.raises(SecurityError):
            CHALLENGER.check(flipped.to_bytes(32, "big"), SOURCE, NOW)


@given(st.binary(max_size=64))
def test_octets_of_any_length_are_refused(octets):
    with pytest.raises(SecurityError):
        CHALLENGER.check(octets, SOURCE, NOW)


def test_two_moments_give_two_challenges():
    assert CHALLENGER.make(SOURCE, NOW) != CHALLENGER.make(SOURCE, NOW + 0.001)
