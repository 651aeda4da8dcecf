"""Rate limits: exact at their bounds, fair between sources, bounded in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeperd.policy.limits import SourceLimiter, TokenBucket

rates = st.floats(0.1, 10_000)
bursts = st.integers(1, 50)
starts = st.floats(0, 1e8)


@settings(deadline=None)
@given(rates, bursts, starts)
def test_a_full_bucket_gives_its_burst_and_not_one_more(rate, burst, now):
    bucket = TokenBucket(rate, burst)
    assert [bucket.take(now) for _ in range(burst + 3)] == [True] * burst + [False] * 3


@settings(deadline=None)
@given(rates, bursts, starts)
def test_an_empty_bucket_gives_one_token_an_interval_later(rate, burst, start):
    bucket = TokenBucket(rate, burst)
    now = start % 10_000
    while bucket.take(now):
        pass
    assert not bucket.take(now + 0.4 / rate)
    assert bucket.take(now + 1.01 / rate)
    assert not bucket.take(now + 1.02 / rate)


@settings(deadline=None)
@given(rates, bursts, st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_pattern_of_asking_gets_more_than_burst_and_rate(rate, burst, pauses):
    bucket, now, taken = TokenBucket(rate, burst), 100.0, []
    for pause in pauses:
        now += pause / rate
        if bucket.take(now):
            taken.append(now)
    for first in range(len(taken)):
        allowed = burst + (taken[-1] - taken[first]) * rate
        assert len(taken) - first <= allowed + 1


@settings(deadline=None)
@given(rates, bursts)
def test_refusals_cost_nothing(rate, burst):
    asked, patient = TokenBucket(rate, burst), TokenBucket(rate, burst)
    for _ in range(burst):
        assert asked.take(0.0)
        assert patient.take(0.0)
    for _ in range(100):
        assert not asked.take(0.1 / rate)
    assert asked.take(1.01 / rate) is patient.take(1.01 / rate) is True


def test_a_clock_that_goes_back_gives_nothing_away():
    bucket = TokenBucket(1.0, 2)
    assert bucket.take(100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(101.0)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1.0, 1), (1.0, 0)])
def test_a_bucket_that_could_never_give_is_refused(rate, burst):
    for make in (lambda: TokenBucket(rate, burst), lambda: SourceLimiter(rate, burst, 1)):
        with pytest.raises(ValueError, match="rate"):
            make()


def test_a_flood_of_one_source_leaves_the_others_alone():
    limiter = SourceLimiter(10.0, 2, 100)
    assert [limiter.take("192.0.2.1", 0.0) for _ in range(1000)].count(True) == 2
    assert limiter.take("192.0.2.2", 0.0)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:0db8:0:0:1::", True),
        ("2001:db8:0:1::1", "2001:db8::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:c000:201", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_source_is_its_64(one, other, shared):
    limiter = SourceLimiter(1.0, 1, 10)
    assert limiter.take(one, 0.0)
    assert limiter.take(other, 0.0) is not shared


def test_what_is_no_address_is_said_to_be_none():
    with pytest.raises(ValueError, match="not an IPv6 address"):
        SourceLimiter(1.0, 1, 10).take("2001:db8::zz", 0.0)


def test_the_table_is_bounded_and_forgets_the_longest_silent():
    limiter = SourceLimiter(0.001, 1, 3)
    for host in ("a", "b", "c"):
        assert limiter.take(host, 0.0)
    assert not limiter.take("a", 1.0)
    assert limiter.take("d", 2.0)
    assert len(limiter) == 3
    assert not limiter.take("a", 3.0)
    assert limiter.take("b", 3.0)
    with pytest.raises(ValueError, match="max_sources"):
        SourceLimiter(1.0, 1, 0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), max_size=300), st.integers(1, 20))
def test_the_table_never_outgrows_its_bound(hosts, bound):
    limiter = SourceLimiter(1.0, 1, bound)
    for host in hosts:
        limiter.take(f"192.0.2.{host}", 0.0)
        assert len(limiter) <= bound
