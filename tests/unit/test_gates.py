"""The five gates: each at its bounds, in their order, and refusing whatever is not granted."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeperd.policy.gates import (
    AdmissionRequest,
    Authentication,
    CallType,
    Gate,
    Limits,
    Method,
    PreemptibleCall,
    Usage,
    choose_preempted,
    evaluate,
)
from gatekeeperd.policy.pii import PiiRules
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.policy.registry import Guardian, GuardianStatus

GUARDIAN = Guardian(
    terminal_id="if://guardian/technical",
    public_key=b"\x01" * 32,
    role="technical",
    description="",
    archetype="engineer",
    bandwidth_quota_bps=2_000_000,
    registered_at=datetime(2026, 1, 1, tzinfo=UTC),
    status=GuardianStatus.ACTIVE,
    veto_power=False,
    specialization=(),
)
REQUEST = AdmissionRequest(
    terminal_id=GUARDIAN.terminal_id,
    call_id="call-1",
    call_type=CallType.ROUTINE,
    has_pii=False,
    bandwidth_bps=384_000,
    authentication=Authentication(verified=True, method=Method.SIGNATURE),
    texts=(("terminalAlias.h323-ID", "Technical guardian"),),
    room="council",
)
IDLE = Usage(guardian_bps=0, guardian_calls=0, total_bps=0, room_participants=0, preemptible_bps=0, live_registration=True)
LIMITS = Limits()
RULES = PiiRules()
SSN = (("display", "SSN 078-05-1120"),)

UNSIGNED = replace(REQUEST, terminal_id=None, authentication=Authentication(verified=True, method=Method.UNSIGNED))


def judge(request=REQUEST, guardian=GUARDIAN, usage=IDLE, limits=LIMITS):
    return evaluate(request, guardian, usage, limits, RULES)


def last(decision):
    result = decision.gates[-1]
    return result.gate.value, result.passed, result.rule


def test_a_good_request_passes_all_five_in_order():
    decision = judge()
    assert (decision.granted, decision.reason, decision.error) == (True, None, None)
    assert (decision.bandwidth_bps, decision.preempt_bps) == (384_000, 0)
    assert [(result.gate.value, result.rule) for result in decision.gates] == [
        ("authenticity", "ed25519"),
        ("registry", "active"),
        ("pii", "none_found"),
        ("fairness", "within_budget"),
        ("capacity", "room_left"),
    ]


def auth(method, *, verified=True):
    return replace(REQUEST, authentication=Authentication(verified=verified, method=method, detail="bad MAC"))


# request, guardian, usage -> the gate that refuses, its rule; or None and the rule of the gate named
TABLE = {
    # 1 authenticity
    "signature": (auth(Method.SIGNATURE), GUARDIAN, IDLE, None, "ed25519"),
    "h235.1": (auth(Method.H235_1), GUARDIAN, IDLE, None, "h235.1"),
    "h235.0": (auth(Method.H235_MD5), GUARDIAN, IDLE, None, "h235.0-md5"),
    "vouched": (auth(Method.VOUCHED), GUARDIAN, IDLE, None, "vouched"),
    **{
        f"{method} not verified": (auth(method, verified=False), GUARDIAN, IDLE, Gate.AUTHENTICITY, "not_proved")
        for method in Method
        if method is not Method.UNSIGNED
    },
    "verified by accident": (auth(Method.SIGNATURE, verified="no"), GUARDIAN, IDLE, Gate.AUTHENTICITY, "not_proved"),
    "unsigned, allowed": (UNSIGNED, None, IDLE, None, "unsigned"),
    "unsigned, not allowed": (
        replace(UNSIGNED, authentication=Authentication(verified=False, method=Method.UNSIGNED)),
        None,
        IDLE,
        Gate.AUTHENTICITY,
        "not_proved",
    ),
    "unsigned claim": (auth(Method.UNSIGNED), GUARDIAN, IDLE, Gate.AUTHENTICITY, "unsigned_claim"),
    # 2 registry
    "unknown": (REQUEST, None, IDLE, Gate.REGISTRY, "unknown"),
    "nobody, signed": (replace(REQUEST, terminal_id=None), None, IDLE, Gate.REGISTRY, "unknown"),
    "another's entry": (replace(REQUEST, terminal_id="if://guardian/civic"), GUARDIAN, IDLE, Gate.REGISTRY, "identity_mismatch"),
    "unsigned with an entry": (UNSIGNED, GUARDIAN, IDLE, Gate.REGISTRY, "identity_mismatch"),
    "suspended": (REQUEST, replace(GUARDIAN, status=GuardianStatus.SUSPENDED), IDLE, Gate.REGISTRY, "suspended"),
    "revoked": (REQUEST, replace(GUARDIAN, status=GuardianStatus.REVOKED), IDLE, Gate.REGISTRY, "revoked"),
    "its own key": (replace(REQUEST, public_key=b"\x01" * 32), GUARDIAN, IDLE, None, "active"),
    "another key": (replace(REQUEST, public_key=b"\x02" * 32), GUARDIAN, IDLE, Gate.REGISTRY, "key_mismatch"),
    "superseded": (REQUEST, GUARDIAN, replace(IDLE, live_registration=False), Gate.REGISTRY, "no_live_registration"),
    "before registration": (REQUEST, GUARDIAN, replace(IDLE, live_registration=None), None, "active"),
    # 3 PII
    "declared, routine": (replace(REQUEST, has_pii=True), GUARDIAN, IDLE, None, "declared"),
    "declared, emergency": (replace(REQUEST, has_pii=True, call_type=CallType.EMERGENCY), GUARDIAN, IDLE, None, "declared"),
    "declared, escalate": (replace(REQUEST, has_pii=True, call_type=CallType.ESCALATE), GUARDIAN, IDLE, Gate.PII, "declared"),
    "found, routine": (replace(REQUEST, texts=SSN), GUARDIAN, IDLE, None, "undeclared"),
    "found, emergency": (replace(REQUEST, texts=SSN, call_type=CallType.EMERGENCY), GUARDIAN, IDLE, None, "undeclared"),
    "found, escalate": (replace(REQUEST, texts=SSN, call_type=CallType.ESCALATE), GUARDIAN, IDLE, Gate.PII, "undeclared"),
    "found, call type from elsewhere": (replace(REQUEST, texts=SSN, call_type=1), GUARDIAN, IDLE, Gate.PII, "undeclared"),
    "clean, escalate": (replace(REQUEST, call_type=CallType.ESCALATE), GUARDIAN, IDLE, None, "none_found"),
    # 4 fairness
    "quota reached": (replace(REQUEST, bandwidth_bps=2_000_000), GUARDIAN, IDLE, None, "within_budget"),
    "quota exceeded": (replace(REQUEST, bandwidth_bps=2_000_001), GUARDIAN, IDLE, Gate.FAIRNESS, "quota"),
    "quota reached with others": (REQUEST, GUARDIAN, replace(IDLE, guardian_bps=1_616_000), None, "within_budget"),
    "quota exceeded with others": (REQUEST, GUARDIAN, replace(IDLE, guardian_bps=1_616_001), Gate.FAIRNESS, "quota"),
    "floor counts": (replace(REQUEST, bandwidth_bps=1), GUARDIAN, replace(IDLE, guardian_bps=1_872_001), Gate.FAIRNESS, "quota"),
    "per call exceeded": (
        replace(REQUEST, bandwidth_bps=2_500_001),
        replace(GUARDIAN, bandwidth_quota_bps=9_000_000),
        IDLE,
        Gate.FAIRNESS,
        "per_call",
    ),
    "per call reached": (
        replace(REQUEST, bandwidth_bps=2_500_000),
        replace(GUARDIAN, bandwidth_quota_bps=9_000_000),
        IDLE,
        None,
        "within_budget",
    ),
    "third call": (REQUEST, GUARDIAN, replace(IDLE, guardian_calls=2), None, "within_budget"),
    "fourth call": (REQUEST, GUARDIAN, replace(IDLE, guardian_calls=3), Gate.FAIRNESS, "calls_per_guardian"),
    "total reached": (REQUEST, GUARDIAN, replace(IDLE, total_bps=99_616_000), None, "within_budget"),
    "total exceeded": (REQUEST, GUARDIAN, replace(IDLE, total_bps=99_616_001, preemptible_bps=9_000_000), Gate.FAIRNESS, "total"),
    "total exceeded, escalate": (
        replace(REQUEST, call_type=CallType.ESCALATE),
        GUARDIAN,
        replace(IDLE, total_bps=99_616_001, preemptible_bps=9_000_000),
        Gate.FAIRNESS,
        "total",
    ),
    "emergency, just enough to pre-empt": (
        replace(REQUEST, call_type=CallType.EMERGENCY),
        GUARDIAN,
        replace(IDLE, total_bps=100_000_000, preemptible_bps=384_000),
        None,
        "preempts_routine",
    ),
    "emergency, not enough to pre-empt": (
        replace(REQUEST, call_type=CallType.EMERGENCY),
        GUARDIAN,
        replace(IDLE, total_bps=100_000_000, preemptible_bps=383_999),
        Gate.FAIRNESS,
        "total",
    ),
    "emergency over its own quota": (
        replace(REQUEST, call_type=CallType.EMERGENCY),
        GUARDIAN,
        replace(IDLE, guardian_bps=1_616_001, preemptible_bps=9_000_000),
        Gate.FAIRNESS,
        "quota",
    ),
    "unsigned up to a call": (UNSIGNED, None, replace(IDLE, guardian_bps=2_116_000), None, "within_budget"),
    "unsigned over a call": (UNSIGNED, None, replace(IDLE, guardian_bps=2_116_001), Gate.FAIRNESS, "quota"),
    # 5 capacity
    "25th participant": (REQUEST, GUARDIAN, replace(IDLE, room_participants=24), None, "room_left"),
    "26th participant": (REQUEST, GUARDIAN, replace(IDLE, room_participants=25), Gate.CAPACITY, "room_full"),
    "26th in an emergency": (
        replace(REQUEST, call_type=CallType.EMERGENCY),
        GUARDIAN,
        replace(IDLE, room_participants=25),
        Gate.CAPACITY,
        "room_full",
    ),
    "no room": (replace(REQUEST, room=None), GUARDIAN, replace(IDLE, room_participants=25), None, "no_room_asked"),
}
REASONS = {
    Gate.AUTHENTICITY: RejectReason.INVALID_SIGNATURE,
    Gate.REGISTRY: RejectReason.NOT_REGISTERED,
    Gate.PII: RejectReason.PII_POLICY_VIOLATION,
    Gate.FAIRNESS: RejectReason.BANDWIDTH_EXCEEDED,
    Gate.CAPACITY: RejectReason.CAPACITY_EXCEEDED,
}


@pytest.mark.parametrize(("request_", "guardian", "usage", "refusing", "rule"), TABLE.values(), ids=TABLE)
def test_each_gate_at_its_bounds(request_, guardian, usage, refusing, rule):
    decision = judge(request_, guardian, usage)
    if refusing is None:
        assert (decision.granted, decision.reason) == (True, None)
        assert rule in [result.rule for result in decision.gates]
        assert len(decision.gates) == 5
    else:
        assert (decision.granted, decision.reason) == (False, REASONS[refusing])
        assert last(decision) == (refusing.value, False, rule)
        assert decision.preempt_bps == 0
        assert [result.passed for result in decision.gates[:-1]] == [True] * (len(decision.gates) - 1)


def test_the_first_gate_that_refuses_decides():
    """Everything is wrong at once; mending one thing after another shows the gates in their order."""
    request = replace(
        REQUEST,
        authentication=Authentication(verified=False, method=Method.SIGNATURE),
        call_type=CallType.ESCALATE,
        has_pii=True,
        bandwidth_bps=9_000_000,
    )
    usage = replace(IDLE, room_participants=25)
    mended = [
        (request, None, usage),
        (request := replace(request, authentication=REQUEST.authentication), None, usage),
        (request, GUARDIAN, usage),
        (request := replace(request, has_pii=False), GUARDIAN, usage),
        (request := replace(request, bandwidth_bps=384_000), GUARDIAN, usage),
        (request, GUARDIAN, IDLE),
    ]
    decisions = [judge(*facts) for facts in mended]
    assert [decision.reason for decision in decisions] == [*REASONS.values(), None]
    assert [len(decision.gates) for decision in decisions] == [1, 2, 3, 4, 5, 5]


@pytest.mark.parametrize(
    ("asked", "counted"), [(-1, 128_000), (0, 128_000), (127_999, 128_000), (128_000, 128_000), (128_001, 128_001)]
)
def test_less_than_the_floor_counts_as_the_floor(asked, counted):
    assert judge(replace(REQUEST, bandwidth_bps=asked)).bandwidth_bps == counted


BROKEN = [
    (replace(REQUEST, authentication=None), GUARDIAN, IDLE, LIMITS, RULES, "authenticity"),
    (auth("magic"), GUARDIAN, IDLE, LIMITS, RULES, "authenticity"),
    (REQUEST, "technical", IDLE, LIMITS, RULES, "registry"),
    (REQUEST, GUARDIAN, None, LIMITS, RULES, "fairness"),
    (REQUEST, GUARDIAN, IDLE, LIMITS, None, "pii"),
    (replace(REQUEST, texts=(("display", None),)), GUARDIAN, IDLE, LIMITS, RULES, "pii"),
    (REQUEST, GUARDIAN, replace(IDLE, total_bps=None), LIMITS, RULES, "fairness"),
    (REQUEST, GUARDIAN, replace(IDLE, room_participants="many"), LIMITS, RULES, "capacity"),
    (replace(REQUEST, bandwidth_bps="much"), GUARDIAN, IDLE, LIMITS, RULES, "authenticity"),
    (REQUEST, GUARDIAN, IDLE, None, RULES, "authenticity"),
]


@pytest.mark.parametrize("facts", BROKEN)
def test_an_error_of_ours_is_a_refusal(facts):
    *arguments, gate = facts
    if arguments[2] is None:
        gate = "registry"  # the first gate that looks at what is in use
    decision = evaluate(*arguments)
    assert (decision.granted, decision.reason) == (False, RejectReason.GATEKEEPER_ERROR)
    assert last(decision) == (gate, False, "error")
    assert isinstance(decision.error, Exception)
    assert decision.gates[-1].detail == type(decision.error).__name__


amounts = st.integers(0, 3_000_000)
usages = st.builds(
    Usage,
    guardian_bps=amounts,
    guardian_calls=st.integers(0, 4),
    total_bps=amounts,
    room_participants=st.integers(0, 5),
    preemptible_bps=amounts,
    live_registration=st.sampled_from([True, False, None]),
).filter(lambda usage: usage.preemptible_bps <= usage.total_bps)
requests = st.builds(
    AdmissionRequest,
    terminal_id=st.sampled_from([GUARDIAN.terminal_id, "if://guardian/civic", None]),
    call_id=st.text(max_size=8),
    call_type=st.sampled_from(CallType),
    has_pii=st.booleans(),
    bandwidth_bps=amounts,
    authentication=st.builds(Authentication, verified=st.booleans(), method=st.sampled_from(Method)),
    texts=st.sampled_from([(), SSN, REQUEST.texts]),
    room=st.sampled_from([None, "council"]),
    public_key=st.sampled_from([None, b"\x01" * 32, b"\x02" * 32]),
)
guardians = st.sampled_from([None, GUARDIAN, replace(GUARDIAN, status=GuardianStatus.REVOKED)])
SMALL = Limits(total_bps=2_500_000, per_call_bps=1_500_000, room_participants=4)


@settings(deadline=None)
@given(requests, guardians, usages)
def test_what_is_granted_keeps_every_limit(request, guardian, usage):
    decision = judge(request, guardian, usage, SMALL)
    if not decision.granted:
        assert (decision.reason is not None, decision.preempt_bps) == (True, 0)
        return
    assert request.authentication.verified
    assert decision.bandwidth_bps >= max(request.bandwidth_bps, SMALL.floor_bps)
    assert usage.total_bps - decision.preempt_bps + decision.bandwidth_bps <= SMALL.total_bps
    assert 0 <= decision.preempt_bps <= usage.preemptible_bps
    assert decision.preempt_bps == 0 or request.call_type is CallType.EMERGENCY
    assert usage.guardian_bps + decision.bandwidth_bps <= (guardian.bandwidth_quota_bps if guardian else SMALL.per_call_bps)
    assert usage.guardian_calls < SMALL.calls_per_guardian
    assert request.room is None or usage.room_participants < SMALL.room_participants
    assert request.call_type is not CallType.ESCALATE or not (request.has_pii or request.texts == SSN)
    assert (guardian is None) is (request.authentication.method is Method.UNSIGNED)


@settings(deadline=None)
@given(requests, guardians, usages, st.integers(0, 1_000_000), st.integers(0, 2))
def test_asking_for_less_when_less_is_in_use_is_never_refused_more(request, guardian, usage, less, fewer):
    if not judge(request, guardian, usage, SMALL).granted:
        return
    eased = replace(
        usage,
        guardian_bps=max(0, usage.guardian_bps - less),
        total_bps=max(0, usage.total_bps - less),
        guardian_calls=max(0, usage.guardian_calls - fewer),
        room_participants=max(0, usage.room_participants - fewer),
    )
    assert judge(replace(request, bandwidth_bps=max(0, request.bandwidth_bps - less)), guardian, eased, SMALL).granted


@settings(deadline=None)
@given(requests, guardians, usages)
def test_a_decision_is_a_function_of_its_facts(request, guardian, usage):
    assert judge(request, guardian, usage, SMALL) == judge(request, guardian, usage, SMALL)


@settings(deadline=None)
@given(requests, guardians, usages)
def test_a_record_is_json_without_floats_and_says_what_decided(request, guardian, usage):
    decision = judge(request, guardian, usage, SMALL)
    record = json.loads(json.dumps(decision.record()), parse_float=lambda number: pytest.fail(f"float {number}"))
    assert record["granted"] is decision.granted
    assert record["reason"] == (decision.reason and decision.reason.value)
    assert [gate["gate"] for gate in record["gates"]] == [result.gate.value for result in decision.gates]


def test_a_record_shows_no_text_of_a_person():
    request = replace(
        REQUEST,
        terminal_id="Ann Smith, SSN 078-05-1120",
        call_id="Ann's call",
        room="Ann's room",
        texts=SSN,
        authentication=Authentication(verified=True, method=Method.VOUCHED),
    )
    record = judge(request, None).record()
    assert "Ann" not in json.dumps(record)
    assert "078" not in json.dumps(judge(replace(request, terminal_id=GUARDIAN.terminal_id)).record())
    assert record["call_id"].startswith("sha256:")
    assert record["call_id"] != record["room"] != record["terminal_id"]
    assert judge().record()["terminal_id"] == GUARDIAN.terminal_id


def test_a_finding_is_recorded_in_a_call_that_goes_on():
    record = judge(replace(REQUEST, texts=SSN)).record()
    assert record["granted"] is True
    assert record["gates"][2] == {"gate": "pii", "passed": True, "rule": "undeclared", "detail": "display: us_ssn"}


def call(name, bandwidth, started, call_type=CallType.ROUTINE):
    return PreemptibleCall(name, bandwidth, started, call_type)


def names(chosen):
    return None if chosen is None else [one.call_id for one in chosen]


def test_the_newest_routine_calls_yield():
    calls = [
        call("old", 500, 1.0),
        call("escalate", 900, 9.0, CallType.ESCALATE),
        call("emergency", 900, 8.0, CallType.EMERGENCY),
        call("new", 300, 3.0),
        call("middle", 400, 2.0),
    ]
    assert names(choose_preempted(calls, 300)) == ["new"]
    assert names(choose_preempted(calls, 301)) == ["middle"]  # with it, the newest is needless
    assert names(choose_preempted(calls, 401)) == ["new", "middle"]
    assert names(choose_preempted(calls, 1200)) == ["new", "middle", "old"]
    assert names(choose_preempted(calls, 1201)) is None
    assert names(choose_preempted(calls, 0)) == []
    assert names(choose_preempted([], 1)) is None


@settings(deadline=None)
@given(
    st.lists(
        st.builds(PreemptibleCall, st.uuids().map(str), st.integers(1, 1000), st.floats(0, 100), st.sampled_from(CallType)),
        max_size=12,
    ),
    st.integers(0, 5000),
)
def test_what_yields_is_routine_enough_and_no_more_than_needed(calls, need):
    chosen = choose_preempted(calls, need)
    routine = [one for one in calls if one.call_type is CallType.ROUTINE]
    if chosen is None:
        assert sum(one.bandwidth_bps for one in routine) < need
        return
    assert all(one in routine for one in chosen)
    freed = sum(one.bandwidth_bps for one in chosen)
    assert freed >= need
    assert all(freed - one.bandwidth_bps < need for one in chosen)
