"""Nothing is told before it is durable; what was told survives a restart; retransmissions get the same answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ras_speaker import reason
from ras_zone import WALL, Peer, Zone, council, guardian, key

from gatekeeperd.core.actions import Commit
from gatekeeperd.core.ras import asking
from gatekeeperd.core.ras.asking import Purpose
from gatekeeperd.core.ras.context import Context
from gatekeeperd.core.ras.state import State
from gatekeeperd.core.ras.vouching import VouchedAdmission
from gatekeeperd.errors import EncodeError
from gatekeeperd.policy.gates import Limits
from gatekeeperd.policy.registry import Registry
from gatekeeperd.security.credential import CallType
from gatekeeperd.security.session import Direction, Exchange, protect, renewed
from gatekeeperd.security.tokens import read_challenge
from gatekeeperd.security.vouch import sign_vouch
from gatekeeperd.wire import h225

A, B = b"\x01" * 16, b"\x02" * 16


def test_every_answer_that_tells_of_a_change_waits_for_its_commit():
    zone, (peer,) = council(1)
    for message in (peer.signed(peer.arq()), peer.protected(peer.brq()), peer.protected(peer.drq()), peer.protected(peer.urq())):
        (action,) = zone.core.receive_datagram(message, peer.source, zone.now)
        assert isinstance(action, Commit)
        assert action.changes
        assert action.records
        zone.carry_out([action])


def test_an_answer_that_only_reads_does_not_overtake_what_it_reads():
    zone, (peer, other) = council(2)
    zone.hold = True
    assert peer.send(peer.signed(peer.arq())) == []
    assert other.send(other.protected(other.lrq(("h323-ID", "g0")))) == [], "behind the commit"
    (alive,) = other.send(other.protected(other.keep_alive()))
    assert alive[0] == "registrationConfirm", "tells of nothing new"
    assert [h225.decode_ras(send.data)[0] for send in zone.release()] == ["admissionConfirm", "locationConfirm"]


def test_a_retransmission_is_not_answered_before_the_commit_and_identically_after():
    zone, (peer,) = council(1)
    zone.hold = True
    pdu = peer.signed(peer.arq())
    assert peer.send(pdu) == []
    assert zone.deliver(pdu, peer.source) == []
    (answer,) = zone.release()
    assert zone.deliver(pdu, peer.source) == [answer]
    assert zone.core.call_count == 1
    assert zone.events("admission.granted") == ["admission.granted"]


def test_a_slow_answer_is_announced_once():
    zone, (peer,) = council(1)
    zone.hold = True
    peer.send(peer.signed(peer.arq()))
    (rip,) = zone.advance(5)
    assert h225.decode_ras(rip.data)[0] == "requestInProgress"
    assert peer.is_authentic(rip.data)
    assert len(zone.release()) == 1
    assert zone.advance(5) == []


def test_registrations_calls_and_their_sums_survive_a_restart():
    zone, (peer, other) = council(2)
    peer.admit(A)
    other.admit(B, bandwidth=6_000)
    before = (zone.core.registration_count, zone.core.call_count, zone.core.bandwidth_in_use_bps)
    zone.boot()
    assert (zone.core.registration_count, zone.core.call_count, zone.core.bandwidth_in_use_bps) == before
    assert zone.advance(59) == [], "every endpoint has its whole timeToLive again"


def test_an_answered_request_repeated_after_a_restart_gets_the_same_answer():
    zone, (peer,) = council(1)
    pdu = peer.signed(peer.arq())
    first = zone.deliver(pdu, peer.source)
    zone.boot()
    again = zone.deliver(pdu, peer.source)
    assert [send.data for send in again] == [send.data for send in first]
    assert zone.core.call_count == 1


def test_after_a_restart_a_fresh_challenge_is_required_and_given():
    zone, (peer,) = council(1)
    old = peer.session
    assert old is not None
    zone.boot()
    answer = peer.ask(peer.keep_alive())
    fresh = read_challenge(answer)
    assert answer[0] == "registrationConfirm"
    assert fresh is not None
    assert reason(peer.admit(A)) == "INVALID_SIGNATURE", "still under the old challenge"
    peer.session = renewed(old, fresh)
    assert peer.admit(A)[0] == "admissionConfirm"
    peer.session = old
    assert peer.send(peer.protected(peer.drq(A)))[0][1]["rejectReason"] == ("securityDenial", None)
    assert zone.core.call_count == 1


def test_a_keep_alive_replayed_over_a_restart_prolongs_nothing():
    zone, (peer,) = council(1)
    captured = peer.protected(peer.keep_alive())
    peer.send(captured)
    zone.advance(30)
    zone.boot()
    zone.advance(40)
    peer.send(captured)
    zone.advance(60)
    assert zone.core.registration_count == 0


def test_a_challenge_that_was_told_holds_whatever_crashes_come_between():
    zone, (peer,) = council(1)
    assert peer.session is not None
    zone.boot()
    fresh = read_challenge(peer.ask(peer.keep_alive()))
    assert fresh is not None
    told = renewed(peer.session, fresh)
    zone.boot()  # the terminal holds `told`, and never used it
    peer.session = told
    again = read_challenge(peer.ask(peer.keep_alive()))
    assert again is not None
    peer.session = renewed(told, again)
    zone.boot()
    last = read_challenge(peer.ask(peer.keep_alive()))
    assert last is not None
    peer.session = renewed(peer.session, last)
    assert peer.admit(A)[0] == "admissionConfirm"


def test_our_counters_grow_over_restarts():
    zone, (peer,) = council(1)
    assert peer.session is not None

    def counter() -> int:
        (send,) = zone.deliver(protect(peer.keep_alive(), peer.session, next(peer.counter), Direction.TO_GATEKEEPER), peer.source)
        data = h225.decode_ras(send.data)[1]["tokens"][-1]["nonStandard"]["data"]
        return int.from_bytes(data[1:9], "big")

    first = [counter() for _ in range(3)]
    zone.boot()
    second = [counter() for _ in range(3)]
    assert first + second == sorted(set(first + second))


def test_old_answers_are_deleted_from_the_store():
    zone, (peer,) = council(1)
    for number in range(20):
        guid = bytes([number + 1]) * 16
        peer.admit(guid)
        peer.ask(peer.drq(guid))
        zone.advance(5)
    assert len(zone.stored["answer"]) < 10


def live(zone: Zone) -> dict[str, object]:
    return {fact.key: fact for fact in zone.core._context.state.facts()}


def durable(zone: Zone) -> dict[str, object]:
    return {fact.key: fact for fact in State(zone.stored).facts()}


@pytest.mark.parametrize("request_name", ["RRQ", "keepAlive", "ARQ", "BRQ", "DRQ", "URQ", "RAI"])
def test_a_fault_of_ours_leaves_memory_as_the_store_has_it(request_name, monkeypatch):
    zone, (peer,) = council(1)
    peer.admit(A)
    pdu = {
        "RRQ": lambda: peer.signed_rrq(peer.rrq(), peer.challenge(), Exchange.generate()),
        "keepAlive": lambda: peer.protected(peer.keep_alive()),
        "ARQ": lambda: peer.signed(peer.arq(B)),
        "BRQ": lambda: peer.protected(peer.brq(A)),
        "DRQ": lambda: peer.protected(peer.drq(A)),
        "URQ": lambda: peer.protected(peer.urq()),
        "RAI": lambda: peer.protected(peer.rai(low=True)),
    }[request_name]()
    before = live(zone)

    def broken(*_: object, **__: object) -> None:
        raise EncodeError("injected")

    with monkeypatch.context() as patched:
        patched.setattr(Context, "answer_octets", broken)
        with pytest.raises(EncodeError):
            zone.core.receive_datagram(pdu, peer.source, zone.now)
    assert live(zone) == before == durable(zone)
    assert zone.core._context.asked == {}
    assert zone.core.get_timer() is not None


def test_a_key_exchange_of_small_order_costs_its_guardian_nothing():
    zone, (peer,) = council(1)
    peer.admit(A)
    moved = Peer(zone, "192.0.2.99", "g0", key(1))
    weak = Exchange(private=bytes(32), public=bytes(32))
    assert moved.send(moved.signed_rrq(moved.rrq(), moved.challenge(), weak)) == []
    assert live(zone) == durable(zone)
    assert (zone.core.registration_count, zone.core.call_count) == (1, 1)


def test_a_timer_that_fails_costs_no_other_and_is_tried_again(monkeypatch):
    zone, (_, __, ___) = council(3)

    def broken(*_: object, **__: object) -> None:
        raise EncodeError("injected")

    with monkeypatch.context() as patched:
        patched.setattr(asking, "ask", broken)
        for _ in range(3):
            with pytest.raises(EncodeError):
                zone.advance(61)
    zone.advance(60)
    assert zone.core.registration_count == 0, "all of them ran out in the end"


def test_our_own_requests_wait_for_their_commit_and_so_do_their_repetitions():
    zone, (peer,) = council(1)
    peer.admit(A)
    (session,) = zone.core.sessions(zone.now)
    zone.hold = True
    commit = zone.core.revoke(session.session_id, zone.now)
    zone.carry_out([commit])
    assert zone.advance(7) == []
    assert {h225.decode_ras(send.data)[0] for send in zone.release()} == {"disengageRequest"}


def test_a_fresh_challenge_is_not_told_before_it_is_durable():
    zone, (peer,) = council(1)
    zone.boot()
    zone.hold = True
    for _ in range(3):
        assert peer.send(peer.protected(peer.keep_alive())) == []
    told = [read_challenge(h225.decode_ras(send.data)) for send in zone.advance(2)]
    assert told == [None] * len(told), "a RIP brings none"
    answers = zone.release()
    assert {read_challenge(h225.decode_ras(send.data)) for send in answers} != {None}


def test_a_guardian_who_was_revoked_while_we_were_down_is_unregistered_at_start():
    zone, (first, second) = council(2)
    first.admit(A)
    zone.registry = Registry((guardian("g0", key(9)), guardian("g1", key(2))), "22")
    zone.boot()
    sends = zone.carry_out([zone.core.enforce_registry(zone.now)])
    assert {h225.decode_ras(send.data)[0] for send in sends} == {"disengageRequest", "unregistrationRequest"}
    assert {send.to for send in sends} == {first.source}
    assert (zone.core.registration_count, zone.core.call_count) == (1, 0)
    assert second.ask(second.keep_alive())[0] == "registrationConfirm"


def test_after_a_restart_not_everything_comes_due_at_once():
    zone, _ = council(20)
    zone.boot()
    due = {zone.core._context.timers.due(("registration", name)) for name in zone.stored["registration"]}
    assert len(due) == 20
    assert all(zone.now + 60 <= time <= zone.now + 75 for time in due)


STEPS = ("admit", "emergency", "drop", "boot", "wait", "keep", "register", "leave", "vouch", "room", "hold", "release", "grow")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=30))
def test_memory_agrees_with_the_store_whatever_happens(steps):
    zone = Zone([guardian(f"g{number}", key(number + 1)) for number in range(2)], limits=Limits(total_bps=3_000_000))
    peers = [Peer(zone, f"192.0.2.{10 + number}", f"g{number}", key(number + 1)) for number in range(2)]
    boardroom = Peer(zone, "192.0.2.30", "boardroom")
    for peer in peers:
        peer.register()
    for step, number in steps:
        peer, guid = peers[number % 2], bytes([number + 1]) * 16
        match step:
            case "admit":
                peer.send(peer.signed(peer.arq(guid, bandwidth=10_000)))
            case "emergency":
                peer.send(peer.signed(peer.arq(guid, bandwidth=12_000), call_type=CallType.EMERGENCY))
            case "grow":
                peer.send(peer.protected(peer.brq(guid, bandwidth=15_000)))
            case "drop":
                peer.send(peer.protected(peer.drq(guid)))
            case "boot":
                zone.boot()
            case "wait":
                zone.advance(31)
            case "keep":
                for answer in peer.send(peer.protected(peer.keep_alive())):
                    fresh = read_challenge(answer)
                    if fresh and peer.session:
                        peer.session = renewed(peer.session, fresh)
            case "register" if not zone.hold:
                peer.register()
            case "leave":
                peer.send(peer.protected(peer.urq()))
            case "vouch":
                _, commit = zone.core.admit(voucher(zone, number), zone.now)
                zone.carry_out([commit])
            case "room" if not zone.hold and boardroom.register()[0] == "registrationConfirm":
                boardroom.admit(b"room" * 4, bandwidth=3_000)
            case "hold":
                zone.hold = True
            case "release":
                zone.release()
    zone.release()
    assert live(zone) == durable(zone)
    reserved = [grant.bandwidth_bps for grant in zone.core._context.state.grants() if grant.calls_left]
    calls = list(zone.core._context.state.calls())
    assert zone.core.bandwidth_in_use_bps == sum(call.bandwidth_bps for call in calls) + sum(reserved)
    assert zone.core.bandwidth_in_use_bps <= 3_000_000
    registered = set(zone.stored.get("registration", {}))
    assert {call.endpoint_identifier for call in calls} <= registered
    clocks = zone.core._context.timers
    asked = {(each.purpose, each.endpoint_identifier, each.call) for each in zone.core._context.asked.values()}
    for name in registered:
        assert ("registration", name) in clocks or (Purpose.EXPIRY, name, "") in asked, "nothing lives for ever"


def voucher(zone: Zone, number: int) -> VouchedAdmission:
    body = {
        "terminal_id": f"if://guardian/g{number % 2}",
        "call_id": "weekly",
        "call_type": "ROUTINE",
        "bandwidth_bps": 640_000,
        "has_pii": False,
        "timestamp": int(WALL + zone.now),
        "nonce": zone.random.randbytes(16).hex(),
        "endpoint_alias": "boardroom",
        "endpoint_address": "192.0.2.30",
    }
    return VouchedAdmission(**sign_vouch(body, key(number % 2 + 1)))
