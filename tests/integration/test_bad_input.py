"""Bad input over real sockets, at a daemon in a process of its own: refused clearly or dropped and counted, at nobody's cost.

``tests/unit/test_ras_protection.py`` has the same attacks bit by bit, without sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attacks import MISPLACED, REQUESTS, UNPROVEN, A, C, Watch, denied, proven, refused, skewed, unbroken
from ras_peer import Peer, Zone, daemon_process, eventually, hosted, write_config
from ras_speaker import Message, reason
from running_daemon import Council, make_council, vouching
from tshark import Recorder, dissect, write_pcap

from gatekeeperd.core.ras.messages import NO_UUIES
from gatekeeperd.net.ras import MAX_DATAGRAM
from gatekeeperd.security import h235
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.session import Direction, Exchange, Session, protect
from gatekeeperd.security.tokens import read_challenge
from gatekeeperd.wire import h225

BYSTANDER, VICTIM, OTHER = 0, 1, 2
NON_STANDARD = {"nonStandardIdentifier": ("object", (1, 3, 6)), "data": b"?"}
PASSWORD = "correct horse"
ROOMS = tuple(f"room-{number}" for number in range(12))
#: A burst serves every test here, each from an address of its own, and refills too slowly to help a flood.
RATES = {"per_source_per_s": 5.0, "per_source_burst": 400, "stranger_records_per_s": 50.0}


@pytest.fixture(scope="module")
def council(tmp_path_factory: pytest.TempPathFactory) -> Council:
    return make_council(tmp_path_factory.mktemp("council"))


def configured(directory: Path, council: Council) -> Path:
    passwords = directory / "passwords.yaml"
    passwords.touch(0o600)
    passwords.write_text("passwords: {" + ", ".join(f"{room}: {PASSWORD}" for room in ROOMS) + "}\n")
    return write_config(directory, council, rates=RATES, gatekeeper={"passwords_file": str(passwords)})


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory, council: Council) -> Iterator[Zone]:
    directory = tmp_path_factory.mktemp("daemon")
    sent = Recorder()
    with daemon_process(configured(directory, council), sent) as (_, running):
        yield running
    # Whatever it was sent, what it answers is well-formed.
    answers = [datagram for datagram in sent.datagrams if datagram.source in running.ras]
    write_pcap(directory / "answers.pcap", answers)
    dissected = dissect(directory / "answers.pcap", {port for _, port in running.ras})
    assert len(dissected) == len(answers)
    assert not {(answer.name, answer.complaints) for answer in dissected if answer.complaints}


@pytest.fixture(scope="module")
def bystander(zone: Zone, council: Council) -> Peer:
    """A guardian in a call, whom none of this concerns."""
    peer = zone.guardian(council.guardian(BYSTANDER))
    assert peer.register(timeToLive=3_600)[0] == "registrationConfirm"
    assert peer.admit(C)[0] == "admissionConfirm"
    return peer


@pytest.fixture(autouse=True)
def bystander_unharmed(zone: Zone, bystander: Peer) -> Iterator[None]:
    before = zone.sessions(bystander.terminal_id)
    assert len(before) == 1
    yield
    zone.settle()
    assert zone.sessions(bystander.terminal_id) == before
    answer = bystander.ask(bystander.keep_alive())
    assert (answer[0], answer[1]["endpointIdentifier"]) == ("registrationConfirm", bystander.endpoint_identifier)
    assert bystander.rest() == [], "nobody made the gatekeeper tell it anything"


@pytest.fixture
def victim(zone: Zone, council: Council) -> Peer:
    """A guardian in a call, whom attacks are aimed at."""
    peer = zone.guardian(council.guardian(VICTIM))
    assert peer.register()[0] == "registrationConfirm"
    assert peer.admit(A)[0] == "admissionConfirm"
    return peer


# What can't be read, and what makes no sense: H.225.0 has no answer to the first, XRS or silence for the second


@pytest.mark.parametrize("request_name", REQUESTS)
def test_truncated(zone: Zone, victim: Peer, request_name: str) -> None:
    watch = Watch(zone)
    pdu = proven(victim, request_name)
    cuts = sorted({*range(0, len(pdu), 1 + len(pdu) // 60), len(pdu) - 1})
    for length in cuts:
        victim.say(pdu[:length])
    assert watch.dropped("malformed") == len(cuts)
    assert len(watch.told("ras.malformed")) == len(cuts)
    watch.nothing_changed()
    unbroken(victim)


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (MAX_DATAGRAM, 'ras_dropped_total{reason="malformed"}'),
        (MAX_DATAGRAM + 1, 'datagram_faults_total{reason="oversized"}'),
        (60_000, 'datagram_faults_total{reason="oversized"}'),
    ],
)
def test_oversized(zone: Zone, victim: Peer, octets: int, fault: str) -> None:
    watch = Watch(zone)
    victim.say(victim.protected(victim.keep_alive()).ljust(octets, b"\xff"))
    assert watch.grown(fault) == 1
    watch.nothing_changed()
    unbroken(victim)


def test_a_large_message_within_the_limit_is_read(victim: Peer) -> None:
    filler = {"data": b"\xa5" * 7_000}
    assert victim.ask(victim.keep_alive(nonStandardData=NON_STANDARD | filler))[0] == "registrationConfirm"


def test_more_fields_than_any_message_needs(zone: Zone, victim: Peer) -> None:
    watch = Watch(zone)
    victim.say(h225.encode_ras(victim.rrq(terminalAlias=[("dialledDigits", "1")] * 2_600)))
    assert watch.dropped("malformed") == 1
    watch.nothing_changed()
    unbroken(victim)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_bit_flipped(zone: Zone, victim: Peer, request_name: str) -> None:
    watch = Watch(zone, victim.terminal_id)
    pdu = proven(victim, request_name)
    bits = range(0, len(pdu) * 8, 1 + len(pdu) * 8 // 250)
    for bit in bits:
        altered = bytearray(pdu)
        altered[bit // 8] ^= 1 << bit % 8
        victim.say(bytes(altered))
    zone.settle()
    answers = victim.rest()
    for name, _ in answers:
        assert name.endswith(("Reject", "Nak", "unknownMessageResponse")), name
    # What is no answer was dropped for a reason that is counted.
    silent = sum(watch.dropped(why) for why in ("malformed", "unauthenticated", "unexpected"))
    assert len(answers) + silent == len(bits)
    assert watch.told("request.rejected") or watch.told("registration.rejected") or watch.told("ras.malformed")
    watch.nothing_changed()
    name, _ = h225.decode_ras(victim.exchange(pdu))
    assert name.endswith(("Confirm", "Ack", "serviceControlResponse")), "unaltered it is taken"


@pytest.mark.parametrize("name", ["registrationConfirm", "admissionConfirm", "requestInProgress", "unknownMessageResponse"])
def test_an_answer_that_nobody_asked_for(zone: Zone, victim: Peer, name: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "registrationConfirm": {
            "protocolIdentifier": (0, 0, 8, 2250, 0, 7),
            "callSignalAddress": [],
            "endpointIdentifier": victim.endpoint_identifier,
            "willRespondToIRR": False,
            "maintainConnection": False,
        },
        "admissionConfirm": {
            "bandWidth": 1_280,
            "callModel": ("direct", None),
            "destCallSignalAddress": ("ipAddress", {"ip": bytes(4), "port": 1720}),
            "willRespondToIRR": False,
            "uuiesRequested": NO_UUIES,
        },
        "requestInProgress": {"delay": 10},
        "unknownMessageResponse": {"messageNotUnderstood": b""},
    }
    watch = Watch(zone)
    victim.say(h225.encode_ras((name, {"requestSeqNum": 9} | bodies[name])))
    assert watch.dropped("unexpected") == 1
    assert victim.rest() == []
    watch.nothing_changed()


@pytest.mark.parametrize(
    "message",
    [
        ("infoRequest", {"requestSeqNum": 9, "callReferenceValue": 0}),
        (
            "nonStandardMessage",
            {"requestSeqNum": 9, "nonStandardData": {"nonStandardIdentifier": ("object", (1, 3)), "data": b"?"}},
        ),
        ("_ext_20", b"of a version to come"),
    ],
    ids=lambda message: message[0],
)
def test_a_message_that_a_gatekeeper_does_not_understand(zone: Zone, victim: Peer, message: Message) -> None:
    watch = Watch(zone)
    pdu = h225.encode_ras(message)
    victim.say(pdu)
    zone.settle()
    ((name, value),) = victim.rest()
    assert (name, value["messageNotUnderstood"]) == ("unknownMessageResponse", pdu)
    watch.nothing_changed()


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"rasAddress": [("nsap", b"\x47\x00\x05")]}, "invalidRASAddress"),
        (
            {"callSignalAddress": [("ipxAddress", {"node": bytes(6), "netnum": bytes(4), "port": bytes(2)})]},
            "invalidCallSignalAddress",
        ),
        ({"callSignalAddress": []}, "invalidCallSignalAddress"),
        ({"additiveRegistration": None}, "additiveRegistrationNotSupported"),
    ],
)
def test_a_choice_that_can_not_be_served(zone: Zone, council: Council, fields: dict[str, Any], choice: str) -> None:
    watch = Watch(zone)
    answer = zone.guardian(council.guardian(OTHER)).register(**fields)
    assert (answer[0], answer[1]["rejectReason"][0], reason(answer)) == ("registrationReject", choice, "GATEKEEPER_ERROR")
    watch.nothing_changed()


# No proof, or somebody else's


def test_a_stranger_is_not_registered(zone: Zone) -> None:
    watch = Watch(zone)
    answer = zone.peer("nobody").register()
    denied(answer)
    assert [told["reason"] for told in watch.told("registration.rejected")] == ["INVALID_SIGNATURE"]
    watch.nothing_changed()


def test_a_guardian_that_the_registry_does_not_know(zone: Zone) -> None:
    watch = Watch(zone)
    answer = zone.guardian(KeyPair.generate("if://guardian/usurper")).register()
    denied(answer, "NOT_REGISTERED")
    assert [told["reason"] for told in watch.told("registration.rejected")] == ["NOT_REGISTERED"]
    watch.nothing_changed()


def test_a_guardian_with_the_wrong_key(zone: Zone, council: Council) -> None:
    watch = Watch(zone)
    answer = zone.guardian(KeyPair.generate(council.guardian(VICTIM).terminal_id)).register()
    denied(answer)
    assert [told["reason"] for told in watch.told("registration.rejected")] == ["INVALID_SIGNATURE"]
    watch.nothing_changed()


@pytest.mark.parametrize("request_name", REQUESTS)
def test_unsigned(zone: Zone, victim: Peer, request_name: str) -> None:
    """The octets of a forger who can write the victim's address, port and endpointIdentifier into its datagrams."""
    expected = UNPROVEN[request_name]
    refused(zone, victim, h225.encode_ras(REQUESTS[request_name](victim)), expected, "INVALID_SIGNATURE")
    assert victim.session is not None
    guessed = Session(b"?" * 32, victim.session.challenge, victim.session.epoch)
    refused(
        zone,
        victim,
        protect(REQUESTS[request_name](victim), guessed, 1_000, Direction.TO_GATEKEEPER),
        expected,
        "INVALID_SIGNATURE",
    )
    unbroken(victim)


@pytest.mark.parametrize("where", ["another address", "another port"])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_spoofed_source(zone: Zone, victim: Peer, request_name: str, where: str) -> None:
    """Valid, and never seen before; but it comes from where the victim is not."""
    thief = zone.peer("thief", host=victim.source[0] if where == "another port" else None)
    *expected, why = MISPLACED[request_name]
    refused(zone, thief, proven(victim, request_name), tuple(expected), why)
    thief.endpoint_identifier = victim.endpoint_identifier
    refused(zone, thief, h225.encode_ras(REQUESTS[request_name](thief)), tuple(expected), why)
    assert victim.rest() == []
    unbroken(victim)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_another_guardian_under_the_victims_name(zone: Zone, council: Council, victim: Peer, request_name: str) -> None:
    """A registered guardian with a session of its own writes the victim's endpointIdentifier, at its own address."""
    other = zone.guardian(council.guardian(OTHER))
    assert other.register()[0] == "registrationConfirm"
    other.endpoint_identifier = victim.endpoint_identifier
    *expected, why = MISPLACED[request_name]
    refused(zone, other, proven(other, request_name), tuple(expected), why)
    unbroken(victim)


# Again


@pytest.mark.parametrize("request_name", REQUESTS)
def test_replayed_at_once(zone: Zone, victim: Peer, request_name: str) -> None:
    """To the same octets from the same source goes the same answer, and that is all that comes of them."""
    pdu = proven(victim, request_name)
    first = victim.exchange(pdu)
    watch = Watch(zone)
    for _ in range(3):
        assert victim.exchange(pdu) == first
    watch.nothing_changed()
    assert watch.told("admission.granted") == watch.told("call.ended") == watch.told("registration.ended") == []


@pytest.mark.parametrize("request_name", REQUESTS)
def test_replayed_later(tmp_path: Path, council: Council, request_name: str) -> None:
    """Once the answer is forgotten, the counter of the message is remembered."""
    after: dict[str, tuple[str | None, str | None, str | None]] = UNPROVEN | {
        # Its registration is over, so it is a stranger by now.
        "URQ": ("unregistrationReject", "notCurrentlyRegistered", "request.rejected")
    }
    with hosted(configured(tmp_path, council)) as zone:
        peer = zone.guardian(council.guardian(VICTIM))
        assert peer.register()[0] == "registrationConfirm"
        assert peer.admit(A)[0] == "admissionConfirm"
        pdu = proven(peer, request_name)
        peer.exchange(pdu)
        zone.let_pass(11)
        refused(zone, peer, pdu, after[request_name], "NOT_REGISTERED" if request_name == "URQ" else "INVALID_SIGNATURE")


def test_a_challenge_grows_old(tmp_path: Path, council: Council) -> None:
    with hosted(configured(tmp_path, council)) as zone:
        peer = zone.guardian(council.guardian(VICTIM))
        challenge = peer.challenge()
        zone.let_pass(61)
        answer = h225.decode_ras(peer.exchange(peer.signed_rrq(peer.rrq(), challenge, Exchange.generate())))
        denied(answer)
        fresh = read_challenge(answer)
        assert fresh is not None, "so that it need not ask again"
        answer = h225.decode_ras(peer.exchange(peer.signed_rrq(peer.rrq(), fresh, Exchange.generate())))
        assert answer[0] == "registrationConfirm"


def test_a_registration_is_not_replayed(zone: Zone, council: Council) -> None:
    peer = zone.guardian(council.guardian(OTHER))
    pdu = peer.signed_rrq(peer.rrq(), peer.challenge(), Exchange.generate())
    first = peer.exchange(pdu)
    assert h225.decode_ras(first)[0] == "registrationConfirm"
    watch = Watch(zone)
    assert peer.exchange(pdu) == first, "a retransmission gets the same answer"
    for thief in (zone.peer("thief"), zone.peer("thief", host=peer.source[0])):
        thief.say(pdu)
        answer = h225.decode_ras(thief.answer_to(pdu))
        denied(answer)
    assert [told["reason"] for told in watch.told("registration.rejected")] == ["INVALID_SIGNATURE"] * 2
    assert watch.told("registration.accepted") == []
    watch.nothing_changed()


def test_a_challenge_is_good_for_one_registration(zone: Zone, council: Council) -> None:
    peer = zone.guardian(council.guardian(OTHER))
    challenge = peer.challenge()
    assert h225.decode_ras(peer.exchange(peer.signed_rrq(peer.rrq(), challenge, Exchange.generate())))[0] == "registrationConfirm"
    watch = Watch(zone)
    answer = h225.decode_ras(peer.exchange(peer.signed_rrq(peer.rrq(), challenge, Exchange.generate())))
    denied(answer)
    assert [told["detail"] for told in watch.told("registration.rejected")] == ["this challenge was used before"]
    watch.nothing_changed()


# Clocks


ROOM = iter(ROOMS)


def room_rrq(peer: Peer, method: str, stamp: int) -> bytes:
    if method == "md5":
        token = h235.password_token(("h323-ID", peer.name), PASSWORD, stamp)
        name, body = peer.rrq()
        return h225.encode_ras((name, body | {"cryptoTokens": [token]}))
    return h235.sign_hashed(
        peer.rrq(), password=PASSWORD, senders_id=peer.name, general_id="council", random=stamp % 1_000, time_stamp=stamp
    )


@pytest.mark.parametrize("method", ["md5", "hashed"])
@pytest.mark.parametrize("skew", [-31, 31])
def test_clock_skewed_h235_token(zone: Zone, method: str, skew: int) -> None:
    peer = zone.peer(next(ROOM))
    watch = Watch(zone)
    refused_at = skewed(skew)
    answer = h225.decode_ras(peer.exchange(room_rrq(peer, method, refused_at)))
    denied(answer)
    assert [told["detail"] for told in watch.told("registration.rejected")] == ["the token's timestamp is more than 30 s off"]
    watch.nothing_changed()
    tolerated = int(time.time()) + (29 if skew > 0 else 0)
    assert h225.decode_ras(peer.exchange(room_rrq(peer, method, tolerated)))[0] == "registrationConfirm"


@pytest.mark.parametrize("skew", [-31, 31])
def test_clock_skewed_voucher(zone: Zone, council: Council, skew: int) -> None:
    watch = Watch(zone)
    answer = zone.http.post("/api/admission/request", json=vouching(council.guardian(OTHER), timestamp=skewed(skew)))
    assert (answer.status_code, answer.json()["reason"]) == (401, "INVALID_SIGNATURE")
    assert [told["reason"] for told in watch.told("voucher.rejected")] == ["INVALID_SIGNATURE"]
    watch.nothing_changed()


def test_replayed_voucher(zone: Zone, council: Council) -> None:
    body = vouching(council.guardian(OTHER), endpoint_alias="boardroom")
    session = zone.http.post("/api/admission/request", json=body).raise_for_status().json()["session_id"]
    try:
        watch = Watch(zone)
        answer = zone.http.post("/api/admission/request", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (401, "INVALID_SIGNATURE")
        assert [told["reason"] for told in watch.told("voucher.rejected")] == ["INVALID_SIGNATURE"]
        watch.nothing_changed()
    finally:
        zone.http.delete(f"/api/admission/session/{session}").raise_for_status()


# Names that are taken


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_duplicate_alias(zone: Zone, council: Council, victim: Peer, spelling: Callable[[str], str]) -> None:
    other = zone.guardian(council.guardian(OTHER))
    watch = Watch(zone)
    mine, taken = ("h323-ID", "my own"), ("h323-ID", spelling(victim.name))
    answer = other.register(terminalAlias=[mine, taken])
    assert answer[0] == "registrationReject"
    assert answer[1]["rejectReason"] == ("duplicateAlias", [taken])
    watch.nothing_changed()
    unbroken(victim)


def test_another_guardians_terminal_id_as_an_alias(zone: Zone, council: Council, victim: Peer) -> None:
    watch = Watch(zone)
    answer = zone.guardian(council.guardian(OTHER)).register(terminalAlias=[("url-ID", victim.terminal_id)])
    denied(answer)
    assert [told["detail"] for told in watch.told("registration.rejected")] == ["an alias belongs to somebody else"]
    watch.nothing_changed()
    unbroken(victim)


# Too much


FLOOD = 5_000
#: So many datagrams at once fit into the smallest receive buffer that a kernel gives: none is lost before we count it.
BATCH = 100


@pytest.mark.parametrize("behind", ["another address", "the flooded address"])
def test_flood_from_one_address(zone: Zone, council: Council, bystander: Peer, behind: str) -> None:
    noise = zone.peer("noise")
    guardian = zone.guardian(council.guardian(VICTIM), host=noise.source[0] if behind == "the flooded address" else None)
    assert guardian.register()[0] == "registrationConfirm"
    # A cookie from before the flood; whoever holds one may register through it.
    late = zone.guardian(council.guardian(OTHER), host=guardian.source[0])
    challenge = late.challenge()
    watch = Watch(zone)
    pdu = h225.encode_ras(noise.grq())
    for _ in range(FLOOD // BATCH):
        for _ in range(BATCH):
            noise.say(pdu)
        assert guardian.ask(guardian.keep_alive())[0] == "registrationConfirm"
        guid = uuid4().bytes
        assert guardian.admit(guid)[0] == "admissionConfirm"
        assert guardian.ask(guardian.drq(guid))[0] == "disengageConfirm"
        assert bystander.ask(bystander.keep_alive())[0] == "registrationConfirm"
        noise.rest()
    answer = h225.decode_ras(late.exchange(late.signed_rrq(late.rrq(), challenge, Exchange.generate())))
    assert answer[0] == "registrationConfirm"
    answered = watch.grown('ras_received_total{type="gatekeeperRequest"}')
    assert answered + watch.dropped("rate_limited") == FLOOD
    assert watch.dropped("rate_limited") > FLOOD // 2
    assert len(watch.told("admission.granted")) == FLOOD // BATCH


def test_flood_of_rubbish(zone: Zone, victim: Peer) -> None:
    """What is recorded of strangers is bounded; what is left out is counted, in the log as well."""
    noise = [zone.peer("noise") for _ in range(4)]
    watch = Watch(zone)
    for batch in range(FLOOD // BATCH):
        for _ in range(BATCH):
            noise[batch % len(noise)].say(b"\xff" * 40)
        assert victim.ask(victim.keep_alive())[0] == "registrationConfirm"
    malformed = watch.dropped("malformed")
    assert malformed + watch.dropped("rate_limited") == FLOOD
    assert malformed >= 4 * RATES["per_source_burst"]
    suppressed = lambda: sum(told["count"] for told in watch.told("ras.suppressed"))
    eventually(lambda: len(watch.told("ras.malformed")) + suppressed() == malformed)
    assert len(watch.told("ras.malformed")) < malformed
    unbroken(victim)


def test_a_guardian_does_not_flood_either(zone: Zone, victim: Peer) -> None:
    """A session has a bucket of its own; who fills it is held to its address's like everybody."""
    watch = Watch(zone)
    confirmed = 0
    for _ in range(10):
        for _ in range(BATCH):
            victim.say(victim.protected(victim.keep_alive()))
        zone.settle()
        confirmed += len(victim.rest())
    assert watch.dropped("rate_limited") == 10 * BATCH - confirmed > 0
