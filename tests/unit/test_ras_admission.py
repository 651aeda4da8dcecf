"""Admission through the gates, calls, bandwidth, disengage."""

from __future__ import annotations

import pytest
from ras_speaker import reason
from ras_zone import Peer, Zone, council, guardian, key

from gatekeeperd.core.ras.messages import read_transport_address, transport_address
from gatekeeperd.core.settings import CallModel
from gatekeeperd.policy.gates import Limits
from gatekeeperd.security.credential import CallType
from gatekeeperd.wire import h225

A, B, C, D = (bytes([number]) * 16 for number in (1, 2, 3, 4))


def test_an_admitted_call_is_routed_through_the_gatekeeper_and_recorded():
    zone, (peer,) = council(1)
    answer = peer.admit()
    assert answer[0] == "admissionConfirm"
    assert answer[1]["callModel"] == ("gatekeeperRouted", None)
    assert read_transport_address(answer[1]["destCallSignalAddress"]) == ("192.0.2.1", 1720)
    assert answer[1]["bandWidth"] == 5_000
    (record,) = [record for record in zone.records if record.event == "admission.granted"]
    assert record.trace_id == A.hex()
    assert [gate["gate"] for gate in record.payload["gates"]] == ["authenticity", "registry", "pii", "fairness", "capacity"]


def test_bandwidth_counts_once_while_a_call_lasts():
    zone, (peer,) = council(1)
    peer.admit(A)
    assert zone.core.bandwidth_in_use_bps == 500_000
    assert peer.ask(peer.brq(A, bandwidth=8_000))[1]["bandWidth"] == 8_000
    assert zone.core.bandwidth_in_use_bps == 800_000
    assert peer.ask(peer.drq(A))[0] == "disengageConfirm"
    assert zone.core.bandwidth_in_use_bps == 0
    assert peer.ask(peer.drq(A))[0] == "disengageConfirm", "both sides agree that it is over"


def test_the_same_call_asked_for_again_replaces_itself():
    zone, (peer,) = council(1)
    first, second = peer.admit(A), peer.admit(A, bandwidth=6_000)
    assert {first[0], second[0]} == {"admissionConfirm"}
    assert zone.core.call_count == 1
    assert zone.core.bandwidth_in_use_bps == 600_000


def test_personal_data_in_an_escalation_is_refused():
    _, (peer,) = council(1)
    declared = peer.admit(A, claims={"call_type": CallType.ESCALATE, "has_pii": True})
    assert (declared[1]["rejectReason"], reason(declared)) == (("invalidPermission", None), "PII_POLICY_VIOLATION")
    found = peer.admit(B, claims={"call_type": CallType.ESCALATE}, srcInfo=[("h323-ID", "Ann 078-05-1120")])
    assert reason(found) == "PII_POLICY_VIOLATION"


def test_over_quota_is_refused_with_what_was_asked_and_what_is_allowed():
    _, (peer,) = council(1)
    peer.admit(A, bandwidth=20_000)
    answer = peer.admit(B, bandwidth=6_000)
    assert (answer[1]["rejectReason"], reason(answer)) == (("requestDenied", None), "BANDWIDTH_EXCEEDED")
    assert b"2600000 of 2500000" in answer[1]["nonStandardData"]["data"]


def test_three_calls_a_guardian():
    _, (peer,) = council(1)
    answers = [peer.admit(guid, bandwidth=1_280) for guid in (A, B, C, D)]
    assert [answer[0] for answer in answers] == ["admissionConfirm"] * 3 + ["admissionReject"]


def test_small_requests_count_as_the_floor():
    zone, (peer,) = council(1)
    answer = peer.admit(A, bandwidth=1)
    assert answer[1]["bandWidth"] == 1_280
    assert zone.core.bandwidth_in_use_bps == 128_000


def test_the_26th_participant_of_a_room_is_refused_and_a_leaver_makes_place():
    _, peers = council(26)
    answers = [peer.admit(bytes([number + 1]) * 16) for number, peer in enumerate(peers)]
    assert [answer[0] for answer in answers] == ["admissionConfirm"] * 25 + ["admissionReject"]
    assert (answers[-1][1]["rejectReason"], reason(answers[-1])) == (("exceedsCallCapacity", None), "CAPACITY_EXCEEDED")
    peers[0].ask(peers[0].drq(bytes([1]) * 16))
    assert peers[-1].admit(bytes([99]) * 16)[0] == "admissionConfirm"


def test_an_emergency_takes_the_place_of_the_newest_routine_call():
    zone, peers = council(3, limits=Limits(total_bps=2_000_000))
    peers[0].admit(A, bandwidth=10_000)
    peers[1].admit(B, bandwidth=10_000)
    assert reason(peers[2].admit(C, bandwidth=10_000)) == "BANDWIDTH_EXCEEDED"
    message = peers[2].arq(C, bandwidth=10_000)
    sends = zone.deliver(peers[2].signed(message, call_type=CallType.EMERGENCY), peers[2].source)
    kinds = {send.to: h225.decode_ras(send.data)[0] for send in sends}
    assert kinds == {peers[1].source: "disengageRequest", peers[2].source: "admissionConfirm"}
    assert zone.core.bandwidth_in_use_bps == 2_000_000
    (preempted,) = [record for record in zone.records if record.event == "admission.preempted"]
    assert preempted.trace_id == C.hex()
    assert preempted.payload["preempted_trace_id"] == B.hex()


def test_a_call_of_four_hours_is_ended_by_the_gatekeeper():
    zone, (peer,) = council(1)
    peer.admit(A)
    sends = []
    for _ in range(4 * 60 * 2 + 1):
        sends += zone.advance(30)
        peer.send(peer.protected(peer.irr(A)))
    drqs = [send for send in sends if h225.decode_ras(send.data)[0] == "disengageRequest"]
    assert len(drqs) == 3, "asked, and repeated twice, for want of a DCF"
    assert all(peer.is_authentic(send.data) for send in drqs)
    assert zone.core.call_count == 0


def test_our_drq_is_repeated_until_it_is_confirmed():
    zone, (peer,) = council(1)
    peer.admit(A)
    (session,) = zone.core.sessions(zone.now)
    commit = zone.core.revoke(session.session_id, zone.now)
    assert commit is not None
    (send,) = zone.make_durable(commit)
    sequence = h225.decode_ras(send.data)[1]["requestSeqNum"]
    assert len(zone.advance(3)) == 1
    peer.send(peer.protected(("disengageConfirm", {"requestSeqNum": sequence})))
    assert zone.advance(20) == []
    assert zone.core.revoke(session.session_id, zone.now) is None


def test_a_call_that_its_endpoint_no_longer_knows_is_closed():
    zone, (peer,) = council(1, irr_frequency_s=20)
    peer.admit(A)
    (send,) = zone.advance(40)
    name, value = h225.decode_ras(send.data)
    assert (name, value["callIdentifier"]["guid"]) == ("infoRequest", A)
    peer.send(peer.protected(peer.irr(sequence=value["requestSeqNum"])))
    assert zone.core.call_count == 0
    assert zone.records[-1].payload["cause"] == "endpoint-does-not-know-it"


def test_a_call_whose_endpoint_is_silent_about_it_is_closed():
    zone, (peer,) = council(1, irr_frequency_s=20)
    peer.admit(A)
    zone.advance(40)
    for _ in range(3):
        peer.ask(peer.keep_alive())
        zone.advance(3)
    assert zone.core.call_count == 0
    assert zone.records[-1].payload["cause"] == "endpoint-silent"
    assert zone.core.registration_count == 1


def test_an_irr_that_wants_an_answer_gets_one():
    zone, (peer,) = council(1)
    assert peer.ask(peer.irr(needResponse=True))[0] == "infoRequestAck"
    stranger = Peer(zone, "192.0.2.66", "stranger")
    stranger.endpoint_identifier = "0" * 32
    assert stranger.ask(stranger.irr(needResponse=True))[1]["nakReason"] == ("notRegistered", None)


def test_bandwidth_beyond_the_quota_is_refused_with_what_stays_allowed():
    zone, (peer,) = council(1)
    peer.admit(A)
    answer = peer.ask(peer.brq(A, bandwidth=30_000))
    assert answer[1]["rejectReason"] == ("insufficientResources", None)
    assert answer[1]["allowedBandWidth"] == 5_000
    assert zone.core.bandwidth_in_use_bps == 500_000
    assert peer.ask(peer.brq(B))[1]["rejectReason"] == ("notBound", None)


# Destinations


def test_destinations_that_are_not_here():
    _, (peer,) = council(1)
    assert peer.admit(A, to=("h323-ID", "nobody"))[1]["rejectReason"] == ("calledPartyNotRegistered", None)
    assert peer.admit(B, destinationInfo=[])[1]["rejectReason"] == ("incompleteAddress", None)
    nsap = ("transportID", ("nsap", b"\x47\x00\x05"))
    assert peer.admit(C, to=nsap)[1]["rejectReason"] == ("incompleteAddress", None)


@pytest.mark.parametrize(
    "to",
    [
        ("h323-ID", "G1"),
        ("url-ID", "if://guardian/g1"),
        ("transportID", transport_address(("192.0.2.11", 1720))),
    ],
)
def test_a_guardian_is_reached_by_name_and_by_address(to):
    _, (caller, callee) = council(2, call_model=CallModel.DIRECT)
    answer = caller.admit(A, to=to)
    assert answer[1]["callModel"] == ("direct", None)
    assert read_transport_address(answer[1]["destCallSignalAddress"]) == callee.signal


def test_the_appliance_is_reached_by_its_address():
    _, (peer,) = council(1)
    assert peer.admit(A, to=("transportID", transport_address(("192.0.2.1", 1720))))[0] == "admissionConfirm"
    assert peer.admit(B, to=("url-ID", "if://conference/guard/42"))[0] == "admissionConfirm"


def call_token(answer):
    return [token for token in answer[1]["tokens"] if token["tokenOID"][-1] == 5]


def test_in_direct_mode_the_callee_returns_the_callers_token():
    zone, (caller, callee) = council(2, call_model=CallModel.DIRECT)
    tokens = call_token(caller.admit(A, to=("h323-ID", "g1")))
    assert len(tokens) == 1
    assert callee.admit(A, answerCall=True, tokens=tokens)[0] == "admissionConfirm"
    assert reason(callee.admit(B, answerCall=True, tokens=tokens)) == "INVALID_SIGNATURE", "another call"
    assert reason(callee.admit(C, answerCall=True)) == "INVALID_SIGNATURE", "no token"
    assert reason(caller.admit(A, answerCall=True, tokens=tokens)) == "GATEKEEPER_ERROR", "its own call"
    zone.advance(301)
    caller.register(endpointIdentifier=caller.endpoint_identifier)
    callee.register(endpointIdentifier=callee.endpoint_identifier)
    assert reason(callee.admit(A, answerCall=True, tokens=tokens)) == "INVALID_SIGNATURE", "out of time"


def test_location_is_told_to_endpoints_and_neighbours_only():
    zone, (peer, _) = council(2, neighbours=("192.0.2.200",))
    assert peer.ask(peer.lrq(("h323-ID", "g1")))[0] == "locationConfirm"
    assert peer.ask(peer.lrq(("h323-ID", "nobody")))[1]["rejectReason"] == ("notRegistered", None)
    neighbour, stranger = Peer(zone, "192.0.2.200", "gk-b", port=1719), Peer(zone, "192.0.2.66", "stranger")
    assert neighbour.ask(neighbour.lrq(("h323-ID", "g1")))[0] == "locationConfirm"
    assert stranger.ask(stranger.lrq(("h323-ID", "g1")))[1]["rejectReason"] == ("requestDenied", None)
    elsewhere = neighbour.lrq(("h323-ID", "g1"), replyAddress=transport_address(("198.51.100.1", 1719)))
    assert neighbour.ask(elsewhere)[0] == "locationReject", "nothing is reflected to a third party"
    assert zone.deliver(h225.encode_ras(neighbour.lrq(("h323-ID", "nobody"))), neighbour.source, multicast=True) == []


def test_a_room_and_a_direct_endpoint_are_located():
    _, (peer, other) = council(2, call_model=CallModel.DIRECT)
    where = peer.ask(peer.lrq(("h323-ID", "g1")))[1]["callSignalAddress"]
    assert read_transport_address(where) == other.signal
    assert read_transport_address(peer.ask(peer.lrq(("h323-ID", "council")))[1]["callSignalAddress"]) == ("192.0.2.1", 1720)


def test_pre_granted_admission_is_offered_in_routed_mode_only():
    for model, offered in ((CallModel.GATEKEEPER_ROUTED, True), (CallModel.DIRECT, False)):
        zone = Zone([guardian("g0", key(1))], call_model=model, pre_grant=True)
        peer = Peer(zone, "192.0.2.10", "g0", key(1))
        assert ("preGrantedARQ" in peer.register()[1]) is offered


def test_resources_are_confirmed_and_remembered():
    zone, (peer,) = council(1)
    assert peer.ask(peer.rai(low=True))[0] == "resourcesAvailableConfirm"
    peer.ask(peer.rai(low=True))
    assert zone.events("resources.changed") == ["resources.changed"]


def test_service_control_is_answered():
    _, (peer,) = council(1)
    message = (
        "serviceControlIndication",
        {"requestSeqNum": 9, "serviceControl": [], "endpointIdentifier": peer.endpoint_identifier},
    )
    assert peer.ask(message)[1]["result"] == ("notAvailable", None)


def test_unknown_messages_are_answered_by_xrs_and_answers_never():
    _, (peer,) = council(1)
    message = (
        "nonStandardMessage",
        {"requestSeqNum": 9, "nonStandardData": {"nonStandardIdentifier": ("object", (1, 2, 3)), "data": b"x"}},
    )
    assert peer.ask(message)[0] == "unknownMessageResponse"
    xrs = h225.encode_ras(("unknownMessageResponse", {"requestSeqNum": 1, "messageNotUnderstood": b""}))
    assert peer.send(xrs) == []


def test_the_tables_of_calls_are_bounded():
    _, (first, second) = council(2, max_calls=1)
    assert first.admit(A)[0] == "admissionConfirm"
    assert reason(second.admit(B)) == "CAPACITY_EXCEEDED"
