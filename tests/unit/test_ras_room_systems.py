"""What endpoints that sign nothing do by themselves, as seen of h323plus, and what they get."""

from __future__ import annotations

import pytest
from ras_zone import Peer, Zone, guardian, key

from gatekeeperd.core.ras.messages import read_transport_address
from gatekeeperd.core.settings import CallModel

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
