"""Nothing is told before it is durable; what was told survives a restart; retransmissions get the same answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from ras_speaker import reason
from ras_zone import Peer, Zone, council, guardian, key

from gatekeeperd.core.actions import Commit, Send
from gatekeeperd.security.session import Direction, protect, renewed
from gatekeeperd.security.tokens import read_challenge
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
    zone.advance(40)
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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["admit", "drop", "boot", "wait", "keep", "register", "leave"]), max_size=25))
def test_sums_agree_with_the_calls_whatever_happens(steps):
    zone = Zone([guardian("g0", key(1))])
    peer = Peer(zone, "192.0.2.10", "g0", key(1))
    peer.register()
    for number, step in enumerate(steps):
        match step:
            case "admit" if peer.session:
                peer.admit(bytes([number % 5 + 1]) * 16)
            case "drop" if peer.session:
                peer.send(peer.protected(peer.drq(bytes([number % 5 + 1]) * 16)))
            case "boot":
                zone.boot()
            case "wait":
                zone.advance(31)
            case "keep":
                (answer,) = peer.send(peer.protected(peer.keep_alive()))
                fresh = read_challenge(answer)
                if fresh and peer.session:
                    peer.session = renewed(peer.session, fresh)
            case "register":
                peer.register()
            case "leave" if peer.session:
                peer.send(peer.protected(peer.urq()))
    calls = zone.core.sessions(zone.now)
    assert zone.core.bandwidth_in_use_bps == sum(call.bandwidth_bps for call in calls)
    assert len(zone.stored.get("call", {})) == zone.core.call_count == len(calls)
    assert len(zone.stored.get("registration", {})) == zone.core.registration_count
    assert all(isinstance(send, Send) for send in zone.advance(1))
