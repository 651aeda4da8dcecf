"""The five gates between a request and its admission.

What lives here: the facts that are judged, the gates in their order, the decision with its record, and who yields when
an emergency needs room. What never does: finding those facts out (``core``), or carrying a decision out.

The rules: the gates stand in the order authenticity, registry, PII, fairness, capacity; the first that refuses decides;
each refuses with one reason of its own; whatever is not granted by all five is refused, an error of ours included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final

from gatekeeperd.core.actions import Json
from gatekeeperd.policy.pii import PiiRules
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.policy.registry import Guardian, GuardianStatus
from gatekeeperd.security.credential import CallType

__all__ = [
    "AdmissionRequest",
    "Authentication",
    "CallType",
    "Decision",
    "Gate",
    "GateResult",
    "Limits",
    "Method",
    "PreemptibleCall",
    "Usage",
    "choose_preempted",
    "evaluate",
    "fairness",
]


class Method(StrEnum):
    """How a requester proved who it is. The value stands in the witness log and in metrics."""

    SIGNATURE = "ed25519"
    H235_1 = "h235.1"
    H235_MD5 = "h235.0-md5"
    VOUCHED = "vouched"
    #: Nothing was proved; verified only where the operator started with ``--allow-unsigned``.
    UNSIGNED = "unsigned"


class Gate(Enum):
    """The gates in their order. The value stands in the witness log and in metrics."""

    AUTHENTICITY = "authenticity"
    REGISTRY = "registry"
    PII = "pii"
    FAIRNESS = "fairness"
    CAPACITY = "capacity"


_GATES: Final = tuple(Gate)

_REASONS: Final = {
    Gate.AUTHENTICITY: RejectReason.INVALID_SIGNATURE,
    Gate.REGISTRY: RejectReason.NOT_REGISTERED,
    Gate.PII: RejectReason.PII_POLICY_VIOLATION,
    Gate.FAIRNESS: RejectReason.BANDWIDTH_EXCEEDED,
    Gate.CAPACITY: RejectReason.CAPACITY_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Authentication:
    """What came of checking a credential. ``detail`` says in our words why it failed, never in the peer's."""

    verified: bool
    method: Method
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """What is asked for. ``bandwidth_bps`` is in bit/s, both directions summed (ARQ ``bandWidth`` x 100).

    ``texts`` are (field, text) pairs for the PII scan; a field is a name of ours. ``public_key`` is one that came with
    the request, if any: it proves nothing but must not contradict the registry. An unsigned requester has no
    ``terminal_id``, whatever alias it gives itself.
    """

    terminal_id: str | None
    call_id: str
    call_type: CallType
    has_pii: bool
    bandwidth_bps: int
    authentication: Authentication
    texts: tuple[tuple[str, str], ...] = ()
    room: str | None = None
    public_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is in use, without the call under judgement (a BRQ takes its own call out first). Bandwidths in bit/s.

    The ``guardian_`` figures of an unsigned requester are its endpoint's.
    ``preemptible_bps`` is the sum of the ROUTINE calls. ``live_registration`` tells whether the request comes from the
    guardian's one live registration; ``None`` where it needs none (vouching precedes it).
    """

    guardian_bps: int
    guardian_calls: int
    total_bps: int
    room_participants: int
    preemptible_bps: int
    live_registration: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator allows. Bandwidths in bit/s, both directions summed, as everywhere in RAS."""

    total_bps: int = 100_000_000
    #: The largest quota of the example registry: one call may use up a guardian's quota, and no unsigned one exceeds it.
    per_call_bps: int = 2_500_000
    #: A smaller ARQ counts as this much, so that many small calls cost what they cost.
    floor_bps: int = 128_000
    calls_per_guardian: int = 3
    #: Seconds. No gate: the state machine's timer ends the call.
    longest_call_s: int = 14_400
    room_participants: int = 25


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate found. ``rule`` is a short constant; ``detail`` holds numbers and our own names, no personal data."""

    gate: Gate
    passed: bool
    rule: str
    detail: str = ""
    #: As it stands in the witness log; made once, since nearly all results are the constants below.
    written: dict[str, Json] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        written = {"gate": self.gate.value, "passed": self.passed, "rule": self.rule, "detail": self.detail}
        object.__setattr__(self, "written", written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Granted or why not, and everything it rests on.

    ``bandwidth_bps`` (bit/s) is what the call counts for. ``preempt_bps`` has to be freed before it starts. ``gates``
    ends with the one that refused. ``error`` is for the daemon's log alone.
    """

    granted: bool
    reason: RejectReason | None
    bandwidth_bps: int
    preempt_bps: int
    gates: tuple[GateResult, ...]
    request: AdmissionRequest
    usage: Usage
    error: Exception | None = None

    def record(self) -> dict[str, Json]:
        """Write the decision for the witness log, without personal data in clear.

        A call identifier or room name may be anything that somebody typed, so a digest stands for it; a terminal_id
        stands in clear once the registry gate knows it, since it then names a role.
        """
        request, usage = self.request, self.usage
        known = any(result.gate is Gate.REGISTRY and result.passed for result in self.gates)
        return {
            "granted": self.granted,
            "reason": None if self.reason is None else self.reason.value,
            "terminal_id": request.terminal_id if known else _digest(request.terminal_id),
            "call_id": _digest(request.call_id),
            "room": _digest(request.room),
            "call_type": request.call_type.name,
            "has_pii": request.has_pii,
            "method": request.authentication.method.value,
            "requested_bps": request.bandwidth_bps,
            "bandwidth_bps": self.bandwidth_bps,
            "preempt_bps": self.preempt_bps,
            "usage": {
                "guardian_bps": usage.guardian_bps,
                "guardian_calls": usage.guardian_calls,
                "total_bps": usage.total_bps,
                "room_participants": usage.room_participants,
            },
            "gates": [result.written for result in self.gates],
        }


def evaluate(request: AdmissionRequest, guardian: Guardian | None, usage: Usage, limits: Limits, pii_rules: PiiRules) -> Decision:
    """Judge a request. Never raises: an error of ours is a refusal with GATEKEEPER_ERROR.

    ``guardian`` is the registry's entry of ``request.terminal_id``, if there is one.
    """
    results: list[GateResult] = []
    error: Exception | None = None
    bandwidth_bps = preempt_bps = 0
    try:
        bandwidth_bps = max(request.bandwidth_bps, limits.floor_bps)
        for result in _results(request, guardian, usage, limits, pii_rules, bandwidth_bps=bandwidth_bps):
            results.append(result)
            if not result.passed:
                break
        preempt_bps = usage.total_bps + bandwidth_bps - limits.total_bps
    except Exception as caught:  # noqa: BLE001  the one place where any error becomes a refusal
        error = caught
        results.append(GateResult(_GATES[min(len(results), 4)], passed=False, rule="error", detail=type(caught).__name__))
    granted = len(results) == len(_GATES) and results[-1].passed
    refused_for = RejectReason.GATEKEEPER_ERROR if error else _REASONS[results[-1].gate]
    return Decision(
        granted=granted,
        reason=None if granted else refused_for,
        bandwidth_bps=bandwidth_bps,
        preempt_bps=preempt_bps if granted and preempt_bps > 0 else 0,
        gates=tuple(results),
        request=request,
        usage=usage,
        error=error,
    )


def _results(
    request: AdmissionRequest,
    guardian: Guardian | None,
    usage: Usage,
    limits: Limits,
    pii_rules: PiiRules,
    *,
    bandwidth_bps: int,
) -> Iterator[GateResult]:
    """Ask the gates in their order, each only once the one before it has passed."""
    yield authenticity(request)
    yield registry(request, guardian, usage)
    yield pii(request, pii_rules)
    yield fairness(request.call_type, bandwidth_bps, guardian, usage, limits)
    yield capacity(request, usage, limits)


# A gate that passes answers with a constant: five thousand requests a second make 25,000 results.
_PROVED: Final = {method: GateResult(Gate.AUTHENTICITY, passed=True, rule=method.value) for method in Method}
_ACTIVE: Final = GateResult(Gate.REGISTRY, passed=True, rule="active")
_UNSIGNED_ALLOWED: Final = GateResult(Gate.REGISTRY, passed=True, rule="unsigned_allowed")
_NO_PII: Final = GateResult(Gate.PII, passed=True, rule="none_found")
_MAY_CARRY_PII: Final = (CallType.ROUTINE, CallType.EMERGENCY)
_WITHIN_BUDGET: Final = GateResult(Gate.FAIRNESS, passed=True, rule="within_budget")
_ROOM_LEFT: Final = GateResult(Gate.CAPACITY, passed=True, rule="room_left")
_NO_ROOM: Final = GateResult(Gate.CAPACITY, passed=True, rule="no_room_asked")


def authenticity(request: AdmissionRequest) -> GateResult:
    """Gate 1: somebody proved who it is. Nobody is a guardian without proof."""
    authentication = request.authentication
    if authentication.method is Method.UNSIGNED and request.terminal_id is not None:
        return GateResult(Gate.AUTHENTICITY, passed=False, rule="unsigned_claim", detail="a guardian must prove who it is")
    if authentication.verified is not True:
        return GateResult(Gate.AUTHENTICITY, passed=False, rule="not_proved", detail=authentication.detail)
    return _PROVED[authentication.method]


def registry(request: AdmissionRequest, guardian: Guardian | None, usage: Usage) -> GateResult:
    """Gate 2, against sybils: an active guardian of the registry, with its key, from its one live registration."""
    if guardian is None:
        if request.authentication.method is Method.UNSIGNED:
            return _UNSIGNED_ALLOWED
        return _not_registered("unknown")
    if guardian.terminal_id != request.terminal_id:
        return _not_registered("identity_mismatch")
    if guardian.status is not GuardianStatus.ACTIVE:
        return _not_registered(guardian.status.value)
    if request.public_key is not None and request.public_key != guardian.public_key:
        return _not_registered("key_mismatch")
    if usage.live_registration is False:
        return _not_registered("no_live_registration")
    return _ACTIVE


def pii(request: AdmissionRequest, pii_rules: PiiRules) -> GateResult:
    """Gate 3: no personal data in ESCALATE, declared or found.

    An escalation leaves the council: its names reach experts and records outside. In a ROUTINE call everyone already
    knows everyone, and an EMERGENCY must not fail on a name; there a finding is recorded and the call goes on.
    """
    findings = pii_rules.scan(request.texts)
    if not findings and not request.has_pii:
        return _NO_PII
    rule = "declared" if request.has_pii else "undeclared"
    return GateResult(
        Gate.PII,
        passed=request.call_type in _MAY_CARRY_PII,
        rule=rule,
        detail=", ".join(f"{finding.field}: {finding.rule}" for finding in findings),
    )


def fairness(call_type: CallType, bandwidth_bps: int, guardian: Guardian | None, usage: Usage, limits: Limits) -> GateResult:
    """Gate 4: no one takes more than the share it has: a call, a guardian, and all together.

    EMERGENCY may take the place of ROUTINE in the total, never in a guardian's own quota: that is its own to free.
    """
    if bandwidth_bps > limits.per_call_bps:
        return _unfair("per_call", bandwidth_bps, limits.per_call_bps)
    if usage.guardian_calls >= limits.calls_per_guardian:
        return _unfair("calls_per_guardian", usage.guardian_calls + 1, limits.calls_per_guardian)
    quota_bps = limits.per_call_bps if guardian is None else guardian.bandwidth_quota_bps
    if usage.guardian_bps + bandwidth_bps > quota_bps:
        return _unfair("quota", usage.guardian_bps + bandwidth_bps, quota_bps)
    missing_bps = usage.total_bps + bandwidth_bps - limits.total_bps
    if missing_bps <= 0:
        return _WITHIN_BUDGET
    if call_type is CallType.EMERGENCY and missing_bps <= usage.preemptible_bps:
        return GateResult(Gate.FAIRNESS, passed=True, rule="preempts_routine", detail=f"{missing_bps} bit/s")
    return _unfair("total", usage.total_bps + bandwidth_bps, limits.total_bps)


def capacity(request: AdmissionRequest, usage: Usage, limits: Limits) -> GateResult:
    """Gate 5: a place in the room. A call between two needs none."""
    if request.room is None:
        return _NO_ROOM
    if usage.room_participants >= limits.room_participants:
        return GateResult(
            Gate.CAPACITY,
            passed=False,
            rule="room_full",
            detail=f"{usage.room_participants} of {limits.room_participants} participants",
        )
    return _ROOM_LEFT


@dataclass(frozen=True, slots=True)
class PreemptibleCall:
    """A call that may have to yield. ``bandwidth_bps`` in bit/s as it was granted, ``started_at`` on any one clock."""

    call_id: str
    bandwidth_bps: int
    started_at: float
    call_type: CallType


def choose_preempted(calls: Iterable[PreemptibleCall], need_bps: int) -> tuple[PreemptibleCall, ...] | None:
    """Choose which ROUTINE calls yield ``need_bps``: the newest first, since the longest has the most to lose.

    A call that turns out to be needless, because a later choice frees enough without it, is spared. None when all of
    them together are not enough; then none should be cut.
    """
    routine = sorted(
        (call for call in calls if call.call_type is CallType.ROUTINE), key=lambda call: call.started_at, reverse=True
    )
    chosen: list[PreemptibleCall] = []
    freed_bps = 0
    for call in routine:
        if freed_bps >= need_bps:
            break
        chosen.append(call)
        freed_bps += call.bandwidth_bps
    if freed_bps < need_bps:
        return None
    for call in reversed(chosen.copy()):
        if freed_bps - call.bandwidth_bps >= need_bps:
            chosen.remove(call)
            freed_bps -= call.bandwidth_bps
    return tuple(chosen)


def _not_registered(rule: str) -> GateResult:
    return GateResult(Gate.REGISTRY, passed=False, rule=rule)


def _unfair(rule: str, asked: int, limit: int) -> GateResult:
    return GateResult(Gate.FAIRNESS, passed=False, rule=rule, detail=f"{asked} of {limit}")


def _digest(text: str | None) -> str | None:
    """Stand in for a name: 64 bit of SHA-256, enough to tell two records of one name from two names."""
    return None if text is None else "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
