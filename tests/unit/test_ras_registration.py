"""Discovery and registration, by signature and without."""

from __future__ import annotations

import pytest
from ras_speaker import reason
from ras_zone import Peer, Zone, council, guardian, key

from gatekeeperd.core.ras.messages import read_transport_address, transport_address
from gatekeeperd.core.settings import AlternateGatekeeper
from gatekeeperd.policy.registry import GuardianStatus, Registry
from gatekeeperd.security.session import Exchange
from gatekeeperd.wire import h225


def test_discovery_is_answered_with_our_address_and_changes_nothing():
    zone = Zone([guardian("g0", key(1))])
    peer = Peer(zone, "192.0.2.10", "g0", key(1))
    (answer,) = peer.send(h225.encode_ras(peer.grq()))
    assert answer[0] == "gatekeeperConfirm"
    assert answer[1]["gatekeeperIdentifier"] == "council"
    assert read_transport_address(answer[1]["rasAddress"]) == ("192.0.2.1", 1719)
    assert not zone.records
    assert not zone.stored


def test_discovery_over_ipv6_names_the_ipv6_address():
    zone = Zone()
    peer = Peer(zone, "2001:db8::10", "alice")
    (answer,) = peer.send(h225.encode_ras(peer.grq()))
    assert read_transport_address(answer[1]["rasAddress"]) == ("2001:db8::1", 1719)


def test_discovery_of_another_gatekeeper_is_refused_when_asked_directly_and_ignored_on_the_group():
    zone = Zone()
    peer = Peer(zone, "192.0.2.10", "alice")
    pdu = h225.encode_ras(peer.grq(gatekeeperIdentifier="another"))
    assert peer.send(pdu)[0][0] == "gatekeeperReject"
    assert zone.deliver(pdu, peer.source, multicast=True) == []


def test_who_is_a_guardian_is_not_told_at_discovery():
    zone = Zone([guardian("g0", key(1))])
    known, unknown = Peer(zone, "192.0.2.10", "g0", key(1)), Peer(zone, "192.0.2.11", "stranger", key(9))
    assert known.challenge()
    assert unknown.challenge()


def test_signed_registration_opens_a_session_and_is_recorded_without_names():
    zone, (peer,) = council(1)
    assert peer.session is not None
    assert zone.core.registration_count == 1
    (record,) = [record for record in zone.records if record.event == "registration.accepted"]
    assert record.payload["terminal_id"] == "if://guardian/g0"
    assert "192.0.2.10" not in str(record.payload)


def test_keep_alive_keeps_and_silence_ends_a_registration():
    zone, (peer,) = council(1)
    for _ in range(5):
        zone.advance(50)
        assert peer.ask(peer.keep_alive())[0] == "registrationConfirm"
    sends = zone.advance(59)
    assert not sends
    sends = zone.advance(30)
    names = [h225.decode_ras(send.data)[0] for send in sends]
    assert names[:3] == ["infoRequest"] * 3
    assert "unregistrationRequest" in names
    assert all(peer.is_authentic(send.data) for send in sends)
    assert zone.core.registration_count == 0
    assert zone.records[-1].payload["cause"] == "expired"


def test_an_irr_saves_a_registration_whose_keep_alives_were_lost():
    zone, (peer,) = council(1)
    (send,) = zone.advance(60)
    sequence = h225.decode_ras(send.data)[1]["requestSeqNum"]
    assert peer.send(peer.protected(peer.irr(sequence=sequence))) == []
    zone.advance(59)
    assert zone.core.registration_count == 1


@pytest.mark.parametrize("method", ["unsigned", "signed"])
def test_keep_alive_of_an_unknown_endpoint_wants_a_full_registration(method):
    zone = Zone([guardian("g0", key(1))], allow_unsigned=method == "unsigned")
    peer = Peer(zone, "192.0.2.10", "g0", key(1))
    peer.endpoint_identifier = "0" * 32
    assert peer.ask(peer.keep_alive())[1]["rejectReason"] == ("fullRegistrationRequired", None)


def test_additive_registration_is_refused_clearly():
    zone = Zone(allow_unsigned=True)
    peer = Peer(zone, "192.0.2.10", "alice")
    assert peer.register(additiveRegistration=None)[1]["rejectReason"] == ("additiveRegistrationNotSupported", None)


def test_unknown_and_inactive_guardians_are_not_registered():
    zone = Zone([guardian("g0", key(1), status=GuardianStatus.SUSPENDED)])
    for name, number in (("g0", 1), ("nobody", 2)):
        peer = Peer(zone, "192.0.2.10", name, key(number))
        answer = peer.register()
        assert (answer[0], reason(answer)) == ("registrationReject", "NOT_REGISTERED")


def test_without_any_credential_nobody_registers():
    zone = Zone()
    answer = Peer(zone, "192.0.2.10", "alice").register()
    assert answer[1]["rejectReason"] == ("securityDenial", None)
    assert reason(answer) == "INVALID_SIGNATURE"
    assert zone.core.registration_count == 0


def test_a_signature_by_another_key_is_refused():
    zone = Zone([guardian("g0", key(1))])
    answer = Peer(zone, "192.0.2.10", "g0", key(2)).register()
    assert reason(answer) == "INVALID_SIGNATURE"


def test_a_registration_is_not_replayed_from_anywhere():
    zone, (peer,) = council(1)
    exchange = Exchange.generate()
    pdu = peer.signed_rrq(peer.rrq(), peer.challenge(), exchange)
    first = peer.send(pdu)
    assert peer.send(pdu) == first, "a retransmission gets the same answer"
    (moved,) = peer.send(pdu, source=("192.0.2.66", 5000))
    assert reason(moved) == "INVALID_SIGNATURE"
    zone.advance(30)
    (late,) = peer.send(pdu)
    assert reason(late) == "INVALID_SIGNATURE", "the challenge is used up"
    assert zone.core.registration_count == 1


def test_a_challenge_ends_after_a_minute_and_the_refusal_brings_a_new_one():
    zone = Zone([guardian("g0", key(1))])
    peer = Peer(zone, "192.0.2.10", "g0", key(1))
    pdu = peer.signed_rrq(peer.rrq(), peer.challenge(), Exchange.generate())
    zone.advance(61)
    (answer,) = peer.send(pdu)
    assert reason(answer) == "INVALID_SIGNATURE"
    assert answer[1]["tokens"]


def test_the_newest_registration_of_a_guardian_supersedes_the_old_one():
    zone, (peer,) = council(1)
    assert peer.admit()[0] == "admissionConfirm"
    moved = Peer(zone, "192.0.2.99", "g0", key(1))
    exchange = Exchange.generate()
    sends = zone.deliver(moved.signed_rrq(moved.rrq(), moved.challenge(), exchange), moved.source)
    told = [send for send in sends if send.to == peer.source]
    assert [h225.decode_ras(send.data)[0] for send in told] == ["unregistrationRequest"]
    assert peer.is_authentic(told[0].data)
    assert zone.core.registration_count == 1
    assert zone.core.call_count == 0
    assert peer.ask(peer.keep_alive())[1]["rejectReason"] == ("fullRegistrationRequired", None)


def test_a_guardian_who_registers_again_by_its_identifier_keeps_it_and_its_calls():
    zone, (peer,) = council(1)
    peer.admit()
    before = peer.endpoint_identifier
    peer.source = ("192.0.2.10", 6000)  # a NAT gave it another port
    assert peer.ask(peer.keep_alive())[1]["rejectReason"] == ("fullRegistrationRequired", None)
    assert peer.register(endpointIdentifier=before)[0] == "registrationConfirm"
    assert peer.endpoint_identifier == before
    assert zone.core.call_count == 1


def test_duplicate_alias_is_refused_and_the_holder_unharmed():
    zone = Zone(allow_unsigned=True)
    alice, mallory = Peer(zone, "192.0.2.10", "alice"), Peer(zone, "192.0.2.66", "ALICE")
    alice.register()
    assert mallory.register()[1]["rejectReason"] == ("duplicateAlias", [("h323-ID", "ALICE")])
    assert alice.ask(alice.keep_alive())[0] == "registrationConfirm"


@pytest.mark.parametrize("alias", ["council", "if://guardian/g0", "chair"])
def test_names_of_the_appliance_and_of_guardians_are_nobody_elses(alias):
    zone = Zone([guardian("g0", key(1), aliases=("chair",))], allow_unsigned=True)
    answer = Peer(zone, "192.0.2.66", alias).register()
    assert answer[0] == "registrationReject"
    assert zone.core.registration_count == 0


def test_an_unsigned_endpoint_registers_again_from_where_it_is():
    zone = Zone(allow_unsigned=True)
    peer = Peer(zone, "192.0.2.10", "alice")
    first = peer.register()[1]["endpointIdentifier"]
    assert peer.register()[1]["endpointIdentifier"] == first
    assert len(first) == 32
    assert zone.core.registration_count == 1


def test_time_to_live_is_bounded_both_ways():
    zone = Zone(allow_unsigned=True, time_to_live_s=120)
    peer = Peer(zone, "192.0.2.10", "alice")
    assert peer.register(timeToLive=100_000)[1]["timeToLive"] == 120
    assert peer.register(timeToLive=1)[1]["timeToLive"] == 10


def test_addresses_that_can_not_be_reached_are_refused():
    zone = Zone(allow_unsigned=True)
    peer = Peer(zone, "192.0.2.10", "alice")
    nsap = ("nsap", b"\x47\x00\x05")
    assert peer.register(rasAddress=[nsap])[1]["rejectReason"] == ("invalidRASAddress", None)
    assert peer.register(callSignalAddress=[])[1]["rejectReason"] == ("invalidCallSignalAddress", None)


def test_the_table_is_bounded():
    zone = Zone(allow_unsigned=True, max_registrations=2)
    for number in range(3):
        answer = Peer(zone, f"192.0.2.{10 + number}", f"e{number}").register()
    assert answer[1]["rejectReason"] == ("resourceUnavailable", None)
    assert zone.core.registration_count == 2


def test_alternate_gatekeepers_are_announced():
    alternate = AlternateGatekeeper(ras_address=("192.0.2.2", 1719), gatekeeper_identifier="council-b", priority=3)
    zone = Zone(allow_unsigned=True, alternates=(alternate,))
    peer = Peer(zone, "192.0.2.10", "alice")
    (gcf,) = peer.send(h225.encode_ras(peer.grq()))
    for answer in (gcf, peer.register()):
        (listed,) = answer[1]["alternateGatekeeper"]
        assert listed["rasAddress"] == transport_address(("192.0.2.2", 1719))
        assert listed["priority"] == 3


def test_unregistration_ends_the_calls_too():
    zone, (peer,) = council(1)
    peer.admit()
    assert peer.ask(peer.urq())[0] == "unregistrationConfirm"
    assert (zone.core.registration_count, zone.core.call_count, zone.core.bandwidth_in_use_bps) == (0, 0, 0)
    assert zone.events()[-2:] == ["call.ended", "registration.ended"]


def test_a_new_registry_ends_what_it_no_longer_allows():
    zone, (first, second) = council(2)
    first.admit()
    second.admit(b"\x02" * 16)
    kept, gone = guardian("g0", key(1)), guardian("g1", key(2), status=GuardianStatus.REVOKED)
    sends = zone.carry_out([zone.core.replace_registry(Registry((kept, gone), "11"), zone.now)])
    names = {h225.decode_ras(send.data)[0] for send in sends if send.to == second.source}
    assert names == {"disengageRequest", "unregistrationRequest"}
    assert (zone.core.registration_count, zone.core.call_count) == (1, 1)
    assert first.ask(first.keep_alive())[0] == "registrationConfirm"
