"""What endpoints that sign nothing do by themselves, as seen of h323plus, and what they get."""

from __future__ import annotations

import itertools

import pytest
from ras_zone import WALL, Peer, Zone, guardian, key

from gatekeeperd.core.ras.messages import read_transport_address
from gatekeeperd.core.settings import CallModel
from gatekeeperd.security.h235 import sign_hashed, verify_hashed
from gatekeeperd.security.oids import HMAC_SHA1_96, MD5
from gatekeeperd.wire import h225

GUID = b"\x01" * 16
#: h323plus asks for 10 Mbit/s, whatever the call.
ALL_IT_CAN = 100_000


def pair(**settings) -> tuple[Zone, Peer, Peer]:
    zone = Zone([guardian("g0", key(1))], call_model=CallModel.DIRECT, allow_unsigned=True, **settings)
    caller, callee = (Peer(zone, f"192.0.2.{10 + number}", name) for number, name in enumerate(("alice", "bob")))
    for peer in (caller, callee):
        assert peer.register()[0] == "registrationConfirm"
    return zone, caller, callee


def test_a_direct_call_between_two_that_sign_nothing():
    zone, caller, callee = pair()
    answer = caller.admit(GUID, to=("h323-ID", "bob"))
    assert answer[0] == "admissionConfirm"
    assert read_transport_address(answer[1]["destCallSignalAddress"]) == callee.signal
    assert "tokens" not in answer[1], "a call token names the guardian who calls"
    assert callee.admit(GUID, answerCall=True)[0] == "admissionConfirm"
    assert zone.core.call_count == 2


def test_who_asks_for_the_most_it_can_is_granted_what_one_call_may_have():
    zone, caller, _ = pair()
    answer = caller.admit(GUID, to=("h323-ID", "bob"), bandwidth=ALL_IT_CAN)
    assert (answer[0], answer[1]["bandWidth"]) == ("admissionConfirm", 25_000)
    assert zone.core.bandwidth_in_use_bps == 2_500_000
    (record,) = [record for record in zone.records if record.event == "admission.granted"]
    assert (record.payload["requested_bps"], record.payload["bandwidth_bps"]) == (10_000_000, 2_500_000)
    second = caller.admit(b"\x02" * 16, to=("h323-ID", "bob"), bandwidth=ALL_IT_CAN)
    assert second[1]["rejectReason"] == ("requestDenied", None), "its quota is used up"


@pytest.mark.parametrize("signs", [False, True])
def test_an_iack_is_promised_to_who_knows_when_to_ask_for_one(signs):
    zone, *_ = pair()
    peer = Peer(zone, "192.0.2.20", "g0", key(1)) if signs else Peer(zone, "192.0.2.20", "carol")
    assert peer.register()[1]["willRespondToIRR"] is signs
    assert peer.admit(GUID)[1]["willRespondToIRR"] is signs


def offers(peer: Peer, *algorithms: tuple[int, ...]) -> dict:
    capability = [("pwdHash", None)]
    return peer.ask(peer.grq(authenticationCapability=capability, algorithmOIDs=list(algorithms)))[1]


def test_the_better_use_of_a_password_is_chosen():
    zone = Zone(passwords={"alice": "correct horse"})
    peer = Peer(zone, "192.0.2.10", "alice")
    both = offers(peer, MD5, HMAC_SHA1_96)
    assert (both["authenticationMode"], both["algorithmOID"]) == (("pwdHash", None), HMAC_SHA1_96)
    assert offers(peer, MD5)["algorithmOID"] == MD5
    assert "algorithmOID" not in offers(peer, (1, 2, 840, 113548, 10, 1, 2, 1))


def test_who_uses_h235_1_is_answered_in_kind():
    zone = Zone(passwords={"alice": "correct horse"}, time_to_live_s=20)
    peer = Peer(zone, "192.0.2.10", "alice")
    randoms = itertools.count()

    def proven(message, senders_id: str) -> bytes:
        wall = int(WALL + zone.now)
        return sign_hashed(
            message, password="correct horse", senders_id=senders_id, general_id="council", random=next(randoms), time_stamp=wall
        )

    def holds(data: bytes) -> str:
        message = h225.decode_ras(data)
        token = verify_hashed(
            data,
            message,
            password="correct horse",
            senders_id="council",
            general_id=peer.endpoint_identifier,
            wall=WALL + zone.now,
        )
        seen.append((token.random, token.time_stamp))
        return message[0]

    seen: list[tuple[int, int]] = []
    (confirm,) = zone.deliver(proven(peer.rrq(), "alice"), peer.source)
    peer.endpoint_identifier = h225.decode_ras(confirm.data)[1]["endpointIdentifier"]
    assert holds(confirm.data) == "registrationConfirm"
    (refused,) = zone.deliver(proven(peer.arq(GUID, to=("h323-ID", "nobody")), peer.endpoint_identifier), peer.source)
    assert holds(refused.data) == "admissionReject"
    asked, *_ = zone.advance(20)
    assert holds(asked.data) == "infoRequest"
    (goodbye,) = zone.deliver(proven(peer.urq(), peer.endpoint_identifier), peer.source)
    assert holds(goodbye.data) == "unregistrationConfirm"
    assert len(set(seen)) == 4, "no token comes twice"
