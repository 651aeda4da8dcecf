"""The table of docs/security.md, cell by cell: for each message and method, each attack is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from ras_speaker import reason
from ras_zone import WALL, Peer, Zone, council, guardian, key

from gatekeeperd.core.ras.messages import transport_address
from gatekeeperd.core.ras.vouching import VouchedAdmission
from gatekeeperd.core.settings import RateLimits
from gatekeeperd.policy.gates import Limits
from gatekeeperd.security import h235
from gatekeeperd.security.credential import CallType
from gatekeeperd.security.session import Direction, Exchange, Session, protect
from gatekeeperd.security.vouch import sign_vouch
from gatekeeperd.wire import h225

A, B = b"\x01" * 16, b"\x02" * 16

#: Every request of a registered endpoint that changes state, and how a guardian writes it.
REQUESTS: dict[str, Callable[[Peer], bytes]] = {
    "keepAlive RRQ": lambda peer: peer.protected(peer.keep_alive()),
    "URQ": lambda peer: peer.protected(peer.urq()),
    "ARQ": lambda peer: peer.signed(peer.arq(B)),
    "BRQ": lambda peer: peer.protected(peer.brq(A)),
    "DRQ": lambda peer: peer.protected(peer.drq(A)),
    "IRR": lambda peer: peer.protected(peer.irr()),
    "RAI": lambda peer: peer.protected(peer.rai(low=True)),
}


def picture(zone: Zone) -> tuple[object, ...]:
    """All that a forged message might change."""
    timers = {name: zone.core._context.timers.due(("registration", name)) for name in zone.stored.get("registration", {})}
    kinds = {kind: dict(items) for kind, items in zone.stored.items() if kind != "answer"}
    return kinds, timers, zone.core.bandwidth_in_use_bps, zone.core.call_count


def refused(zone: Zone, pdu: bytes, source: tuple[str, int]) -> None:
    """Deliver, and see that nothing changed and that nothing but a refusal came back."""
    before = picture(zone)
    sends = zone.deliver(pdu, source)
    assert picture(zone) == before
    for send in sends:
        name = h225.decode_ras(send.data)[0]
        assert name.endswith(("Reject", "Nak", "Response")), name


@pytest.fixture
def signed() -> tuple[Zone, Peer, Peer]:
    zone, (peer, other) = council(2, rates=_unlimited())
    peer.admit(A)
    return zone, peer, other


def _unlimited():
    return RateLimits(per_source_per_s=1e6, per_source_burst=1_000_000, per_session_per_s=1e6, per_session_burst=1_000_000)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_altered(request_name, signed):
    zone, peer, _ = signed
    pdu = REQUESTS[request_name](peer)
    for bit in range(0, len(pdu) * 8, 7):
        altered = bytearray(pdu)
        altered[bit // 8] ^= 1 << bit % 8
        refused(zone, bytes(altered), peer.source)
    assert zone.deliver(pdu, peer.source) or request_name == "IRR", "unaltered it is taken"


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_replayed(request_name, signed):
    zone, peer, _ = signed
    pdu = REQUESTS[request_name](peer)
    zone.deliver(pdu, peer.source)
    for _ in range(2):
        before = picture(zone)
        zone.deliver(pdu, peer.source)  # at first the kept answer, which changes nothing either
        assert picture(zone) == before
        zone.advance(11)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_without_proof(request_name, signed):
    zone, peer, _ = signed
    peer.session, session = None, peer.session
    message = {
        "keepAlive RRQ": peer.keep_alive(),
        "URQ": peer.urq(),
        "ARQ": peer.arq(B),
        "BRQ": peer.brq(A),
        "DRQ": peer.drq(A),
        "IRR": peer.irr(),
        "RAI": peer.rai(low=True),
    }[request_name]
    refused(zone, h225.encode_ras(message), peer.source)
    assert session is not None
    wrong = Session(b"?" * 32, session.challenge, session.epoch)
    refused(zone, protect(message, wrong, 50, Direction.TO_GATEKEEPER), peer.source)
    reflected = protect(message, session, 51, Direction.TO_TERMINAL)
    refused(zone, reflected, peer.source)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_moved_to_another_source(request_name, signed):
    zone, peer, other = signed
    pdu = REQUESTS[request_name](peer)
    refused(zone, pdu, ("192.0.2.66", 5000))
    refused(zone, pdu, (peer.source[0], 5001))
    refused(zone, pdu, other.source)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_moved_to_another_endpoint(request_name, signed):
    zone, peer, other = signed
    peer.endpoint_identifier = other.endpoint_identifier
    pdu = REQUESTS[request_name](peer)
    refused(zone, pdu, peer.source)
    refused(zone, pdu, other.source)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_signature_moved_to_another_gatekeeper(request_name, signed):
    _, peer, _ = signed
    elsewhere, _ = council(2, gatekeeper_identifier="elsewhere")
    refused(elsewhere, REQUESTS[request_name](peer), peer.source)


def test_a_credential_is_not_moved_to_another_call_or_message(signed):
    zone, peer, other = signed
    stolen = h225.decode_ras(peer.signed(peer.arq(B)))[1]["tokens"][0]
    for guid in (A, B, b"\x03" * 16):
        refused(zone, other.protected(other.arq(guid, tokens=[stolen])), other.source)
        refused(zone, peer.protected(peer.arq(guid, tokens=[stolen])), peer.source)
    refused(zone, peer.protected(peer.keep_alive(keepAlive=False, tokens=[stolen])), peer.source)


def test_a_credential_of_another_guardian_or_bandwidth_is_refused(signed):
    zone, peer, _ = signed
    refused(zone, peer.signed(peer.arq(B), terminal_id="if://guardian/g1"), peer.source)
    refused(zone, peer.signed(peer.arq(B), key=key(2)), peer.source)
    refused(zone, peer.signed(peer.arq(B, bandwidth=5_000), bandwidth_bps=400_000), peer.source)
    refused(zone, peer.signed(peer.arq(B), counter=1), peer.source)


def test_a_forged_answer_does_not_settle_a_request_of_ours(signed):
    zone, _, other = signed
    (session,) = zone.core.sessions(zone.now)
    commit = zone.core.revoke(session.session_id, zone.now)
    (send,) = zone.make_durable(commit)
    sequence = h225.decode_ras(send.data)[1]["requestSeqNum"]
    zone.deliver(h225.encode_ras(("disengageConfirm", {"requestSeqNum": sequence})), other.source)
    assert len(zone.advance(3)) == 1, "still repeated"


# Room systems with a password


PASSWORD = "correct horse"


def room(method: str) -> tuple[Zone, Peer, Callable[..., bytes]]:
    zone = Zone([guardian("g0", key(1), aliases=("room-1",))], passwords={"room-1": PASSWORD}, rates=_unlimited())
    peer = Peer(zone, "192.0.2.20", "room-1")

    def proven(message, *, password: str = PASSWORD, at: float | None = None, alias: str = "room-1") -> bytes:
        stamp = int(WALL + (zone.now if at is None else at))
        if method == "md5":
            token = h235.password_token(("h323-ID", alias), password, stamp)
            return h225.encode_ras((message[0], message[1] | {"cryptoTokens": [token]}))
        number = int.from_bytes(zone.random.randbytes(3), "big")
        return h235.sign_hashed(
            message, password=password, senders_id=alias, general_id="council", random=number, time_stamp=stamp
        )

    return zone, peer, proven


@pytest.mark.parametrize("method", ["md5", "hashed"])
def test_password_registers_calls_and_leaves(method):
    zone, peer, proven = room(method)
    (answer,) = peer.send(proven(peer.rrq()))
    assert answer[0] == "registrationConfirm"
    peer.endpoint_identifier = answer[1]["endpointIdentifier"]
    for message, confirm in (
        (peer.keep_alive(), "registrationConfirm"),
        (peer.arq(A), "admissionConfirm"),
        (peer.brq(A), "bandwidthConfirm"),
        (peer.rai(low=True), "resourcesAvailableConfirm"),
        (peer.drq(A), "disengageConfirm"),
        (peer.urq(), "unregistrationConfirm"),
    ):
        zone.advance(1)
        assert peer.send(proven(message))[0][0] == confirm
    assert zone.core.registration_count == 0


@pytest.mark.parametrize("method", ["md5", "hashed"])
@pytest.mark.parametrize("attack", ["wrong password", "old", "no token", "another alias", "before our start"])
def test_password_attacks_on_registration(method, attack):
    zone, peer, proven = room(method)
    zone.advance(100)
    pdu = {
        "wrong password": lambda: proven(peer.rrq(), password="guess"),
        "old": lambda: proven(peer.rrq(), at=zone.now - 31),
        "no token": lambda: h225.encode_ras(peer.rrq()),
        "another alias": lambda: proven(peer.rrq(), alias="room-2"),
        "before our start": lambda: _after_restart(zone, proven(peer.rrq())),
    }[attack]()
    (answer,) = peer.send(pdu)
    assert (answer[0], reason(answer)) == ("registrationReject", "INVALID_SIGNATURE")
    assert zone.core.registration_count == 0


def _after_restart(zone: Zone, pdu: bytes) -> bytes:
    zone.advance(2)
    zone.boot()
    return pdu


@pytest.mark.parametrize("method", ["md5", "hashed"])
@pytest.mark.parametrize("request_name", ["keepAlive RRQ", "URQ", "ARQ", "BRQ", "DRQ", "IRR", "RAI"])
def test_password_attacks_on_requests(method, request_name):
    zone, peer, proven = _registered_room(method)
    make = _requests(peer)[request_name]
    refused(zone, h225.encode_ras(make()), peer.source)
    refused(zone, proven(make(), password="guess"), peer.source)
    refused(zone, proven(make(), at=zone.now - 31), peer.source)
    refused(zone, proven(make()), ("192.0.2.66", 5000))
    pdu = proven(make())
    if method == "hashed":
        for offset in range(0, len(pdu), 5):
            refused(zone, pdu[:offset] + bytes([pdu[offset] ^ 4]) + pdu[offset + 1 :], peer.source)
    zone.deliver(pdu, peer.source)
    zone.advance(11)
    before = picture(zone)
    zone.deliver(pdu, peer.source)
    assert picture(zone) == before


def _registered_room(method: str) -> tuple[Zone, Peer, Callable[..., bytes]]:
    """A password endpoint with call A, and a second one (room-2) beside it."""
    zone, peer, proven = room(method)
    peer.endpoint_identifier = peer.send(proven(peer.rrq()))[0][1]["endpointIdentifier"]
    zone.advance(1)
    assert peer.send(proven(peer.arq(A)))[0][0] == "admissionConfirm"
    zone.advance(1)
    return zone, peer, proven


def _transplant(token_from: bytes, message) -> bytes:
    """Write a message with the proof that another one carried."""
    stolen = h225.decode_ras(token_from)[1]["cryptoTokens"]
    return h225.encode_ras((message[0], message[1] | {"cryptoTokens": stolen}))


def _requests(peer: Peer):
    return {
        "keepAlive RRQ": peer.keep_alive,
        "URQ": peer.urq,
        "ARQ": lambda: peer.arq(B),
        "BRQ": lambda: peer.brq(A),
        "DRQ": lambda: peer.drq(A),
        "IRR": peer.irr,
        "RAI": lambda: peer.rai(low=True),
    }


@pytest.mark.parametrize("request_name", ["keepAlive RRQ", "URQ", "ARQ", "BRQ", "DRQ", "IRR", "RAI"])
def test_hashed_moved_to_another_message_or_gatekeeper(request_name):
    zone, peer, proven = _registered_room("hashed")
    make = _requests(peer)[request_name]
    refused(zone, _transplant(proven(peer.lrq(("h323-ID", "x"))), make()), peer.source)
    foreign = h235.sign_hashed(
        make(), password=PASSWORD, senders_id="room-1", general_id="elsewhere", random=1, time_stamp=int(WALL + zone.now)
    )
    refused(zone, foreign, peer.source)


@pytest.mark.parametrize("request_name", ["keepAlive RRQ", "URQ", "ARQ", "BRQ", "DRQ", "IRR", "RAI"])
@pytest.mark.parametrize("method", ["md5", "hashed"])
def test_password_moved_to_another_endpoint(method, request_name):
    zone = Zone(
        [guardian("g0", key(1), aliases=("room-1",)), guardian("g1", key(2), aliases=("room-2",))],
        passwords={"room-1": PASSWORD, "room-2": PASSWORD + "2"},
        rates=_unlimited(),
    )
    _, _, proven = room(method)
    peers = [Peer(zone, f"192.0.2.{20 + number}", f"room-{number}") for number in (1, 2)]
    for peer, password in zip(peers, (PASSWORD, PASSWORD + "2"), strict=True):
        pdu = proven(peer.rrq(), password=password, alias=peer.name)
        peer.endpoint_identifier = peer.send(pdu)[0][1]["endpointIdentifier"]
    thief, victim = peers
    thief.endpoint_identifier = victim.endpoint_identifier
    pdu = proven(_requests(thief)[request_name]())
    refused(zone, pdu, thief.source)
    refused(zone, pdu, victim.source)


@pytest.mark.parametrize("method", ["md5", "hashed"])
def test_a_changed_password_ends_what_rested_on_the_old_one(method):
    zone, peer, proven = _registered_room(method)
    zone.core.replace_passwords({"room-1": "another horse"})
    refused(zone, proven(peer.keep_alive()), peer.source)
    zone.core.replace_passwords({})
    refused(zone, proven(peer.keep_alive()), peer.source)


def test_md5_proves_the_sender_and_not_the_message():
    """What docs/security.md says of H.235.0 passwords: who can read the network can speak for 30 s as who was heard."""
    zone, peer, proven = _registered_room("md5")
    heard = proven(peer.lrq(("h323-ID", "x")))
    forged = _transplant(heard, peer.drq(A))
    assert peer.send(forged)[0][0] == "disengageConfirm"
    zone.advance(11)
    refused(zone, forged, peer.source)


# Vouched room systems


def voucher(zone: Zone, **more) -> VouchedAdmission:
    body = {
        "terminal_id": "if://guardian/g0",
        "call_id": "weekly",
        "call_type": "ROUTINE",
        "bandwidth_bps": 640_000,
        "has_pii": False,
        "timestamp": int(WALL + zone.now),
        "nonce": zone.random.randbytes(16).hex(),
        "endpoint_alias": "boardroom",
        "endpoint_address": "192.0.2.30",
    }
    return VouchedAdmission(**sign_vouch(body | more, key(1)))


def vouched_zone(**settings) -> tuple[Zone, Peer]:
    zone = Zone([guardian("g0", key(1))], rates=_unlimited(), **settings)
    return zone, Peer(zone, "192.0.2.30", "boardroom")


def admit(zone: Zone, request: VouchedAdmission):
    answer, commit = zone.core.admit(request, zone.now)
    zone.make_durable(commit)
    return answer


def test_a_voucher_buys_one_registration_and_one_call():
    zone, peer = vouched_zone()
    answer = admit(zone, voucher(zone))
    assert answer.admitted
    assert zone.core.bandwidth_in_use_bps == 640_000
    assert peer.register()[0] == "registrationConfirm"
    assert peer.admit(A)[0] == "admissionConfirm"
    assert zone.core.bandwidth_in_use_bps == 500_000, "the call took over what was reserved"
    assert reason(peer.admit(B)) == "INVALID_SIGNATURE"
    other = Peer(zone, "192.0.2.30", "boardroom", port=6000)
    assert reason(other.register()) == "INVALID_SIGNATURE"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bandwidth_bps": 650_000}, "INVALID_SIGNATURE"),
        ({"endpoint_address": "192.0.2.66"}, "INVALID_SIGNATURE"),
        ({"endpoint_alias": "other"}, "INVALID_SIGNATURE"),
        ({"terminal_id": "if://guardian/nobody"}, "NOT_REGISTERED"),
        ({"signature": "ed25519:" + "00" * 64}, "INVALID_SIGNATURE"),
        ({"public_key": "ed25519:" + key(2).public.hex()}, "INVALID_SIGNATURE"),
    ],
)
def test_an_altered_voucher_is_refused(change, why):
    zone, _ = vouched_zone()
    answer = admit(zone, replace(voucher(zone), **change))
    assert (answer.admitted, answer.reason.value) == (False, why)
    assert not zone.core.sessions(zone.now)


def test_a_voucher_is_taken_once_and_in_time():
    zone, _ = vouched_zone()
    zone.advance(100)
    request = voucher(zone)
    assert admit(zone, request).admitted
    assert not admit(zone, request).admitted
    assert not admit(zone, voucher(zone, timestamp=int(WALL + zone.now - 31))).admitted
    late = voucher(zone)
    zone.advance(2)
    zone.boot()
    assert not admit(zone, late).admitted, "made before our start, so perhaps a replay"


def test_a_voucher_holds_for_its_alias_and_address_alone():
    zone, _ = vouched_zone()
    admit(zone, voucher(zone))
    assert reason(Peer(zone, "192.0.2.31", "boardroom").register()) == "INVALID_SIGNATURE"
    assert reason(Peer(zone, "192.0.2.30", "bedroom").register()) == "INVALID_SIGNATURE"


def test_nobody_gets_more_bandwidth_than_was_vouched_for():
    zone, peer = vouched_zone(vouch_lifetime_s=30)
    admit(zone, voucher(zone))
    peer.register()
    assert peer.admit(A, bandwidth=100_000)[1]["bandWidth"] == 6_400
    assert peer.ask(peer.brq(A, bandwidth=100_000))[1]["bandWidth"] == 6_400
    zone.advance(31)
    assert peer.ask(peer.brq(A, bandwidth=100_000))[1]["bandWidth"] == 6_400, "also when the voucher's time is over"
    assert zone.core.bandwidth_in_use_bps == 640_000


@pytest.mark.parametrize("request_name", ["URQ", "DRQ"])
def test_a_forged_goodbye_of_a_vouched_endpoint_is_checked_by_irq(request_name):
    zone, peer = vouched_zone()
    admit(zone, voucher(zone))
    peer.register()
    peer.admit(A)
    forged = peer.urq() if request_name == "URQ" else peer.drq(A)
    first = {h225.decode_ras(send.data)[0]: send for send in zone.deliver(h225.encode_ras(forged), peer.source)}
    assert set(first) == {"infoRequest", "requestInProgress"}
    again = peer.send(h225.encode_ras(forged))
    assert [name for name, _ in again] == ["requestInProgress"]
    sequence = h225.decode_ras(first["infoRequest"].data)[1]["requestSeqNum"]
    (answer,) = peer.send(h225.encode_ras(peer.irr(A, sequence=sequence)))
    assert answer[0] == ("unregistrationReject" if request_name == "URQ" else "disengageReject")
    assert (zone.core.registration_count, zone.core.call_count) == (1, 1)


@pytest.mark.parametrize("confirmed_by", ["irr", "silence"])
def test_a_true_goodbye_of_a_vouched_endpoint_ends_its_call_and_then_its_registration(confirmed_by):
    zone, peer = vouched_zone(vouch_lifetime_s=60)
    admit(zone, voucher(zone))
    peer.register(timeToLive=120)
    peer.admit(A)
    sends = {h225.decode_ras(send.data)[0]: send for send in zone.deliver(h225.encode_ras(peer.drq(A)), peer.source)}
    if confirmed_by == "irr":
        sequence = h225.decode_ras(sends["infoRequest"].data)[1]["requestSeqNum"]
        answers = [name for name, _ in peer.send(h225.encode_ras(peer.irr(sequence=sequence)))]
    else:
        answers = [h225.decode_ras(send.data)[0] for send in zone.advance(10)]
    assert "disengageConfirm" in answers
    assert zone.core.call_count == 0
    zone.advance(60)
    assert zone.core.registration_count == 0, "the voucher is over and no call rests on it"


def test_revoking_a_voucher_ends_the_registration_that_rests_on_it():
    zone, peer = vouched_zone()
    answer = admit(zone, voucher(zone))
    peer.register()
    commit = zone.core.revoke(answer.session_id, zone.now)
    assert commit is not None
    assert [h225.decode_ras(send.data)[0] for send in zone.make_durable(commit)] == ["unregistrationRequest"]
    assert zone.core.registration_count == 0


# Unsigned endpoints, where the operator allowed them


@pytest.mark.parametrize("request_name", ["keepAlive RRQ", "URQ", "ARQ", "BRQ", "DRQ", "IRR", "RAI"])
def test_unsigned_is_held_to_its_address(request_name):
    zone = Zone(allow_unsigned=True, rates=_unlimited())
    peer = Peer(zone, "192.0.2.20", "alice")
    peer.register()
    assert peer.admit(A)[0] == "admissionConfirm"
    refused(zone, REQUESTS[request_name](peer) if request_name != "ARQ" else h225.encode_ras(peer.arq(B)), ("192.0.2.66", 5000))


def test_unsigned_endpoints_end_with_the_permission():
    zone = Zone(allow_unsigned=True)
    peer = Peer(zone, "192.0.2.20", "alice")
    peer.register()
    zone.settings = replace(zone.settings, allow_unsigned=False)
    zone.boot()
    assert peer.ask(peer.keep_alive())[0] == "registrationReject"
    assert reason(peer.admit(A)) == "INVALID_SIGNATURE"


# What the review of the first version found


def test_a_forged_answer_from_the_right_address_settles_nothing(signed):
    zone, peer, _ = signed
    commit = zone.core.revoke(zone.core.sessions(zone.now)[0].session_id, zone.now)
    (send,) = zone.make_durable(commit)
    sequence = h225.decode_ras(send.data)[1]["requestSeqNum"]
    zone.deliver(h225.encode_ras(("disengageConfirm", {"requestSeqNum": sequence})), peer.source)
    assert len(zone.advance(3)) == 1, "still repeated: it had no MAC"
    zone.deliver(peer.protected(("disengageConfirm", {"requestSeqNum": sequence})), peer.source)
    assert zone.advance(20) == []


def test_a_confirm_does_not_answer_an_irq(signed):
    zone, peer, _ = signed
    sends = zone.advance(60)
    inquiry = next(send for send in sends if send.to == peer.source and h225.decode_ras(send.data)[0] == "infoRequest")
    sequence = h225.decode_ras(inquiry.data)[1]["requestSeqNum"]
    zone.deliver(peer.protected(("disengageConfirm", {"requestSeqNum": sequence})), peer.source)
    zone.advance(30)
    assert zone.core.registration_count == 0, "it ran out all the same"


def test_a_password_guards_its_alias_in_every_spelling_and_every_place():
    zone, peer, proven = room("hashed")
    zone.core.replace_passwords({"Room-1": PASSWORD, "room-2": PASSWORD})
    both = peer.rrq(terminalAlias=[("h323-ID", "room-1"), ("h323-ID", "room-2")])
    refused(zone, proven(both), peer.source)
    zone.settings = replace(zone.settings, allow_unsigned=True)
    zone.boot()
    zone.core.replace_passwords({"room-1": PASSWORD})
    shouting = Peer(zone, "192.0.2.66", "ROOM-1")
    assert reason(shouting.register()) == "INVALID_SIGNATURE"
    assert peer.send(proven(peer.rrq()))[0][0] == "registrationConfirm"


def test_an_overheard_md5_token_does_not_put_its_owner_out():
    zone, peer, proven = _registered_room("md5")
    overheard = proven(peer.keep_alive(requestSeqNum=500))
    thief = Peer(zone, "203.0.113.6", "room-1")
    answer = thief.send(_transplant(overheard, thief.rrq(requestSeqNum=501)))
    assert [name for name, _ in answer] == ["registrationReject"]
    zone.advance(1)
    assert peer.send(proven(peer.keep_alive()))[0][0] == "registrationConfirm"


def test_a_voucher_does_not_put_a_signed_session_out(signed):
    zone, peer, _ = signed
    assert admit(zone, voucher(zone)).admitted
    boardroom = Peer(zone, "192.0.2.30", "boardroom")
    assert boardroom.register()[1]["rejectReason"][0] == "duplicateAlias"
    assert peer.ask(peer.keep_alive())[0] == "registrationConfirm"


def test_vouching_again_goes_on_with_the_same_registration():
    zone, peer = vouched_zone()
    admit(zone, voucher(zone))
    peer.register()
    peer.admit(A)
    assert admit(zone, voucher(zone)).admitted
    assert peer.admit(B)[0] == "admissionConfirm", "the second voucher's call"
    zone.deliver(h225.encode_ras(peer.drq(A)), peer.source)
    zone.deliver(h225.encode_ras(peer.drq(B)), peer.source)
    zone.advance(400)
    assert zone.core.registration_count == 0


def test_another_guardians_voucher_for_the_same_endpoint_is_refused():
    zone = Zone([guardian("g0", key(1)), guardian("g1", key(2))])
    assert admit(zone, voucher(zone)).admitted
    body = {name: value for name, value in voucher(zone).body().items() if name != "signature"}
    other = VouchedAdmission(**sign_vouch(body | {"terminal_id": "if://guardian/g1", "nonce": "00" * 16}, key(2)))
    assert not admit(zone, other).admitted


def test_a_call_identifier_belongs_to_its_caller(signed):
    zone, peer, other = signed
    refused(zone, other.signed(other.arq(A)), other.source)
    refused(zone, other.signed(other.arq(A, to=("h323-ID", "g0"))), other.source)
    assert peer.admit(A)[0] == "admissionConfirm"


def test_a_call_that_was_disengaged_does_not_begin_again(signed):
    zone, peer, _ = signed
    late = peer.signed(peer.arq(B))
    peer.send(peer.protected(peer.drq(B)))
    refused(zone, late, peer.source)


def test_an_emergency_never_exceeds_the_total():
    zone = Zone([guardian("g0", key(1)), guardian("g1", key(2))], limits=Limits(total_bps=3_000_000))
    peer = Peer(zone, "192.0.2.11", "g1", key(2))
    peer.register()
    assert admit(zone, voucher(zone, bandwidth_bps=2_000_000)).admitted
    answer = peer.admit(A, bandwidth=20_000, claims={"call_type": CallType.EMERGENCY})
    assert reason(answer) == "BANDWIDTH_EXCEEDED", "a voucher reserves, and can't be cut"


def test_an_emergency_does_not_cut_itself():
    zone, (peer, other) = council(2, limits=Limits(total_bps=3_000_000))
    peer.admit(A, bandwidth=20_000)
    other.admit(B, bandwidth=10_000)
    sends = zone.deliver(peer.signed(peer.arq(A, bandwidth=21_000), call_type=CallType.EMERGENCY), peer.source)
    assert {(send.to, h225.decode_ras(send.data)[0]) for send in sends} == {
        (other.source, "disengageRequest"),
        (peer.source, "admissionConfirm"),
    }
    assert zone.core.bandwidth_in_use_bps == 2_100_000


def test_a_location_is_told_to_the_reply_address():
    zone = Zone(neighbours=("192.0.2.200",), allow_unsigned=True)
    Peer(zone, "192.0.2.10", "alice").register()
    neighbour = Peer(zone, "192.0.2.200", "gk-b", port=40_000)
    message = neighbour.lrq(("h323-ID", "alice"), replyAddress=transport_address(("192.0.2.200", 1719)))
    (send,) = zone.deliver(h225.encode_ras(message), neighbour.source)
    assert send.to == ("192.0.2.200", 1719)


def test_a_message_that_fills_a_datagram_is_not_echoed():
    zone = Zone()
    filler = ("infoRequest", {"requestSeqNum": 1, "callReferenceValue": 0, "callIdentifier": {"guid": A}})
    bare = len(h225.encode_ras(filler))
    for size in (8_100, 8_150, 8_190):
        data = {"nonStandardIdentifier": ("object", (1, 2, 3)), "data": bytes(size - bare - 20)}
        pdu = h225.encode_ras((filler[0], filler[1] | {"nonStandardData": data}))
        for send in zone.deliver(pdu, ("192.0.2.66", 5000)):
            assert len(send.data) <= 8_192


def test_aliases_that_would_not_fit_an_answer_are_refused(signed):
    zone, peer, _ = signed
    aliases = [("h323-ID", chr(97 + number) * 250) for number in range(15)]
    pdu = peer.signed_rrq(peer.rrq(terminalAlias=aliases), peer.challenge(), Exchange.generate())
    refused(zone, pdu, peer.source)


def test_md5_does_not_stand_in_for_h235_1():
    zone, peer, _ = _registered_room("hashed")
    token = h235.password_token(("h323-ID", "room-1"), PASSWORD, int(WALL + zone.now))
    for message in (peer.keep_alive(), peer.drq(A), peer.urq(), peer.rai(low=True), peer.brq(A)):
        refused(zone, h225.encode_ras((message[0], message[1] | {"cryptoTokens": [token]})), peer.source)


def test_an_overheard_md5_token_does_not_lock_its_owner_out():
    zone, peer, proven = _registered_room("hashed")
    token = h235.password_token(("h323-ID", "room-1"), PASSWORD, int(WALL + zone.now))
    thief = Peer(zone, "203.0.113.6", "room-1")
    for number in range(1_100):
        message = thief.rrq(requestSeqNum=number + 1)
        zone.deliver(h225.encode_ras((message[0], message[1] | {"cryptoTokens": [token]})), thief.source)
    assert peer.send(proven(peer.keep_alive()))[0][0] == "registrationConfirm"


def test_a_replayed_h235_1_registration_does_not_move_it_even_over_a_restart():
    zone, peer, proven = room("hashed")
    pdu = proven(peer.rrq(), at=zone.now + 15)  # its clock is ahead of ours
    assert peer.send(pdu)[0][0] == "registrationConfirm"
    zone.advance(5)
    zone.boot()
    refused(zone, pdu, ("203.0.113.9", 5000))


def test_h235_1_registers_again_from_another_address():
    zone, _peer, proven = _registered_room("hashed")
    moved = Peer(zone, "192.0.2.77", "room-1")
    zone.advance(1)
    assert moved.send(proven(moved.rrq()))[0][0] == "registrationConfirm"
    assert zone.core.registration_count == 1


def test_names_that_only_the_registry_gives_are_reserved(signed):
    zone, peer, _ = signed
    for name in ("if://guardian/g9", "IF://conference/guard/x"):
        pdu = peer.signed_rrq(peer.rrq(terminalAlias=[("url-ID", name)]), peer.challenge(), Exchange.generate())
        refused(zone, pdu, peer.source)


def test_a_room_is_one_however_it_is_named_and_left_by_no_trick():
    _zone, peers = council(3, limits=Limits(room_participants=2))
    names = ("council", "if://conference/guard/council", "IF://conference/guard/Council/")
    answers = [peer.admit(bytes([9 + n]) * 16, to=("url-ID", names[n])) for n, peer in enumerate(peers)]
    assert [answer[0] for answer in answers] == ["admissionConfirm", "admissionConfirm", "admissionReject"]
    assert peers[0].admit(bytes([9]) * 16, answerCall=True)[0] == "admissionReject"
    assert peers[2].admit(bytes([30]) * 16)[0] == "admissionReject", "the room is still full"


# Floods


def test_what_looks_like_ours_is_not_decoded_for_strangers(monkeypatch):
    zone, (peer,) = council(1)
    noise = b"\x0e\x80" + bytes((0x2B, 6, 1, 4, 1, 0x81, 0xFD, 0x59, 77, 2)) * 100
    for _ in range(500):
        zone.deliver(noise, ("203.0.113.6", 5000))
    before = zone.core.stats.dropped["malformed"]
    for _ in range(5_000):
        zone.deliver(noise, ("203.0.113.6", 5000))
    assert zone.core.stats.dropped["malformed"] == before
    assert peer.ask(peer.keep_alive())[0] == "registrationConfirm"


def test_one_cookie_does_not_buy_a_flood():
    zone, (peer,) = council(1)
    rrqs = [peer.signed_rrq(peer.rrq(), peer.challenge(), Exchange.generate(), key=key(9)) for _ in range(3)]
    answered = 0
    for number in range(3_000):
        answered += len(zone.deliver(rrqs[number % 3], peer.source))
    assert answered < 450, "the source's own burst, and a handful on the cookie"


def test_a_captured_message_does_not_drain_its_guardians_bucket():
    zone, (peer,) = council(1)
    captured = peer.protected(peer.keep_alive())
    for _ in range(3_000):
        zone.deliver(captured, peer.source)
    assert peer.ask(peer.keep_alive())[0] == "registrationConfirm"


def test_a_room_system_with_h235_1_has_a_budget_of_its_own():
    zone, peer, proven = room("hashed")
    zone.settings = replace(zone.settings, rates=RateLimits())
    zone.boot()
    peer.endpoint_identifier = peer.send(proven(peer.rrq()))[0][1]["endpointIdentifier"]
    noise = h225.encode_ras(peer.grq())
    for _ in range(1_000):
        zone.deliver(noise, peer.source)
    assert peer.send(proven(peer.keep_alive()))[0][0] == "registrationConfirm"


def test_a_flood_under_a_guardians_address_does_not_silence_the_guardian():
    zone, (peer, other) = council(2)
    noise = h225.encode_ras(Peer(zone, "192.0.2.10", "noise").grq())
    for _ in range(3_000):
        zone.deliver(noise, peer.source)
    assert zone.core.stats.dropped["rate_limited"] > 2_000
    assert peer.ask(peer.keep_alive())[0] == "registrationConfirm"
    assert peer.admit(A)[0] == "admissionConfirm"
    assert other.ask(other.keep_alive())[0] == "registrationConfirm"


def test_a_flood_of_rubbish_is_counted_and_recorded_within_bounds():
    zone = Zone(rates=_unlimited())
    for number in range(2_000):
        assert zone.deliver(b"\xff" * 40, (f"192.0.2.{number % 250}", 5000)) == []
    zone.advance(2)
    assert zone.core.stats.dropped["malformed"] == 2_000
    told = [record for record in zone.records if record.event == "ras.malformed"]
    (rest,) = [record.payload["count"] for record in zone.records if record.event == "ras.suppressed"]
    assert len(told) + rest == 2_000
    assert len(told) < 600


def test_addresses_are_hashed_in_every_record():
    zone, (peer,) = council(1)
    zone.deliver(b"\x00", ("192.0.2.66", 5000))
    peer.admit(A, srcInfo=[("h323-ID", "Ann Example")])
    text = str([record.payload for record in zone.records])
    assert "192.0.2" not in text
    assert "Ann" not in text
    assert transport_address(peer.source)
