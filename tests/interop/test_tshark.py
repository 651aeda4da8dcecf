"""Every kind of message that the gatekeeper and its peers send, as tshark sees it: nothing malformed, the same names as ours."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ras_peer import HostedZone, Peer, Zone, hosted, standing_disk, write_config
from ras_speaker import Message
from running_daemon import Council, make_council, vouching
from tshark import Datagram, Dissected, Recorder, dissect, write_pcap

from gatekeeperd.security import h235, oids
from gatekeeperd.security.credential import CallType
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.terminal.udp import Terminal
from gatekeeperd.wire import h225

A, B, C, D, E = (bytes([number]) * 16 for number in (1, 2, 3, 4, 5))
PASSWORD = "correct horse"
ROOM_IRR_S = 20


@dataclass(frozen=True)
class Capture:
    """What was sent in all conversations, the daemons' ports, and tshark's opinion of it."""

    datagrams: list[Datagram]
    ports: set[int]
    dissected: list[Dissected]

    @property
    def messages(self) -> list[Message]:
        return [h225.decode_ras(datagram.data) for datagram in self.datagrams]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    recorder = Recorder()
    council = make_council(tmp_path_factory.mktemp("council"))
    ports: set[int] = set()
    for conversation in (routed, direct, restarted):
        ports |= conversation(tmp_path_factory.mktemp(conversation.__name__), council, recorder)
    path = tmp_path_factory.mktemp("capture") / "conversations.pcap"
    write_pcap(path, recorder.datagrams)
    return Capture(recorder.datagrams, ports, dissect(path, ports))


# The conversations


def routed(directory: Path, council: Council, recorder: Recorder) -> set[int]:
    """A zone with guardians, room systems, IPv6, neighbours, alternates and pre-grant."""
    passwords = directory / "passwords.yaml"
    passwords.touch(0o600)
    passwords.write_text(f"passwords: {{room-1: {PASSWORD}, room-2: {PASSWORD}}}\n")
    config = write_config(
        directory,
        council,
        ras={"bind": ["127.0.0.1", "::1"]},
        gatekeeper={"pre_grant": True, "irr_frequency_s": ROOM_IRR_S, "passwords_file": str(passwords)},
        limits={"room_participants": 2},
        neighbours=["127.0.0.77"],
        alternates=[{"host": "192.0.2.9", "identifier": "second"}, {"host": "2001:db8::9", "identifier": "third", "priority": 2}],
    )
    with hosted(config, recorder) as zone:
        first, second = zone.guardian(council.guardian(0)), zone.guardian(council.guardian(1), host="::1")
        unknown = zone.peer("unknown")
        unknown.endpoint_identifier = "0" * 32
        discovery(zone)
        registrations(zone, council, first, second)
        refused_registrations(zone.guardian(council.guardian(2)), unknown, taken=first.name)
        admissions(first, second)
        refused_admissions(first, zone.guardian(council.guardian(2)), unknown)
        during_calls(first, unknown)
        locations(zone, first, unknown)
        information(first, unknown)
        vouched(zone, council)
        slow_disk(zone, first)
        asyncio.run(terminal(zone, council, recorder))
        the_gatekeepers_own(zone, council, first, second)
        return {port for _, port in zone.ras}


def discovery(zone: Zone) -> None:
    peer = zone.peer("room-1")
    assert peer.ask(peer.grq())[0] == "gatekeeperConfirm"
    assert peer.ask(peer.grq(algorithmOIDs=[oids.MD5], authenticationCapability=[("pwdHash", None)]))[0] == "gatekeeperConfirm"
    assert refusal(peer.ask(peer.grq(gatekeeperIdentifier="elsewhere"))) == ("gatekeeperReject", "terminalExcluded")


def refusal(answer: Message) -> tuple[str, str]:
    return answer[0], answer[1]["rejectReason"][0]


def unproven(peer: Peer, message: Message) -> Message:
    return h225.decode_ras(peer.exchange(h225.encode_ras(message)))


def registrations(zone: Zone, council: Council, first: Peer, second: Peer) -> None:
    assert first.register()[0] == "registrationConfirm"
    assert second.register()[0] == "registrationConfirm"
    assert first.ask(first.keep_alive())[0] == "registrationConfirm"
    one, two = zone.peer("room-1"), zone.peer("room-2")
    stamp = int(time.time())
    md5 = h235.password_token(("h323-ID", one.name), PASSWORD, stamp)
    assert one.ask(one.rrq(cryptoTokens=[md5]))[0] == "registrationConfirm"
    hashed = h235.sign_hashed(two.rrq(), password=PASSWORD, senders_id=two.name, general_id="council", random=1, time_stamp=stamp)
    assert h225.decode_ras(two.exchange(hashed))[0] == "registrationConfirm"


def refused_registrations(guardian: Peer, unknown: Peer, *, taken: str) -> None:
    answers = [
        unknown.register(),
        unknown.ask(unknown.keep_alive()),
        guardian.register(terminalAlias=[("h323-ID", taken), ("dialledDigits", "123")]),
        guardian.register(rasAddress=[("nsap", b"\x47\x00\x05")]),
        guardian.register(callSignalAddress=[("netBios", bytes(16))]),
        guardian.register(additiveRegistration=None),
        guardian.register(terminalAlias=[("dialledDigits", str(number)) for number in range(40)]),
    ]
    assert [refusal(answer)[1] for answer in answers] == [
        "securityDenial",
        "fullRegistrationRequired",
        "duplicateAlias",
        "invalidRASAddress",
        "invalidCallSignalAddress",
        "additiveRegistrationNotSupported",
        "undefinedReason",
    ]


def admissions(first: Peer, second: Peer) -> None:
    assert first.admit(A)[0] == "admissionConfirm"
    assert second.admit(B, to=("url-ID", "if://conference/guard/42"))[0] == "admissionConfirm"
    assert second.admit(C)[0] == "admissionConfirm"


def refused_admissions(first: Peer, third: Peer, unknown: Peer) -> None:
    assert third.register()[0] == "registrationConfirm"
    answers = [
        unproven(first, first.arq(D)),
        unknown.admit(D),
        first.admit(D, claims={"call_type": CallType.ESCALATE, "has_pii": True}),
        first.admit(D, bandwidth=30_000),
        third.admit(D),
        first.admit(D, to=("h323-ID", "nobody")),
        first.admit(D, destinationInfo=[]),
    ]
    assert [refusal(answer)[1] for answer in answers] == [
        "securityDenial",
        "callerNotRegistered",
        "invalidPermission",
        "requestDenied",
        "exceedsCallCapacity",
        "calledPartyNotRegistered",
        "incompleteAddress",
    ]
    assert third.ask(third.urq())[0] == "unregistrationConfirm"


def during_calls(first: Peer, unknown: Peer) -> None:
    assert first.ask(first.brq(A))[0] == "bandwidthConfirm"
    assert refusal(first.ask(first.brq(A, bandwidth=30_000))) == ("bandwidthReject", "insufficientResources")
    assert refusal(first.ask(first.brq(D))) == ("bandwidthReject", "notBound")
    assert refusal(unproven(first, first.brq(A))) == ("bandwidthReject", "securityDenial")
    assert refusal(unproven(first, first.drq(A))) == ("disengageReject", "securityDenial")
    assert refusal(unknown.ask(unknown.drq(A))) == ("disengageReject", "notRegistered")
    assert refusal(unproven(first, first.urq())) == ("unregistrationReject", "securityDenial")
    assert refusal(unknown.ask(unknown.urq())) == ("unregistrationReject", "notCurrentlyRegistered")
    assert first.ask(first.drq(A))[0] == "disengageConfirm"


def locations(zone: Zone, first: Peer, unknown: Peer) -> None:
    neighbour = zone.peer("neighbour", host="127.0.0.77")
    assert neighbour.ask(neighbour.lrq(("h323-ID", "council")))[0] == "locationConfirm"
    assert first.ask(first.lrq(("url-ID", first.terminal_id)))[0] == "locationConfirm"
    assert refusal(first.ask(first.lrq(("email-ID", "nobody@example.net")))) == ("locationReject", "notRegistered")
    assert refusal(unknown.ask(unknown.lrq(("h323-ID", "council")))) == ("locationReject", "requestDenied")


def information(first: Peer, unknown: Peer) -> None:
    assert first.ask(first.irr(A, B, needResponse=True))[0] == "infoRequestAck"
    assert unknown.ask(unknown.irr(needResponse=True))[0] == "infoRequestNak"
    assert first.ask(first.rai(low=True))[0] == "resourcesAvailableConfirm"
    assert first.ask(first.sci())[0] == "serviceControlResponse"
    stray = h225.encode_ras(("infoRequest", {"requestSeqNum": 9, "callReferenceValue": 0}))
    assert h225.decode_ras(unknown.exchange(stray))[0] == "unknownMessageResponse"


def vouched(zone: Zone, council: Council) -> None:
    """A room system that can prove nothing: its goodbye is believed only once an IRQ shows that the call is over."""
    room = zone.peer("boardroom")
    body = vouching(council.guardian(3), call_id="weekly", endpoint_alias=room.name, endpoint_address=room.source[0])
    zone.http.post("/api/admission/request", json=body).raise_for_status()
    assert room.register()[0] == "registrationConfirm"
    assert room.admit(A, to=("url-ID", "if://conference/guard/7"))[0] == "admissionConfirm"
    goodbye = h225.encode_ras(room.drq(A))
    room.say(goodbye)
    (_, asked), _ = room.expect("infoRequest")
    room.expect("requestInProgress")
    room.say(h225.encode_ras(room.irr(sequence=asked["requestSeqNum"])))
    assert h225.decode_ras(room.answer_to(goodbye))[0] == "disengageConfirm"


def slow_disk(zone: HostedZone, first: Peer) -> None:
    with standing_disk():
        pdu = first.signed(first.arq(E))
        first.say(pdu)
        first.expect("requestInProgress")
    assert h225.decode_ras(first.answer_to(pdu))[0] == "admissionConfirm"


async def terminal(zone: Zone, council: Council, recorder: Recorder) -> None:
    """What our own terminal says, for once."""
    key = council.guardian(4)
    settings = EndpointSettings(
        terminal_id=key.terminal_id or "",
        key=key,
        service_keys=(zone.service_key,),
        gatekeepers=(zone.ras[0],),
        ras_address=("127.0.0.41", 0),
        call_signal_address=("127.0.0.41", 1720),
    )
    visitor = await Terminal.open(settings, tap=recorder)
    try:
        await visitor.discover_and_register()
        request = CallRequest(destination="if://conference/guard/9", bandwidth_bps=640_000)
        admission = await visitor.admit(request)
        await visitor.admit(replace(request, call_type=CallType.ESCALATE, has_pii=True))
        await visitor.keep_alive()
        await visitor.change_bandwidth(admission.call, 700_000)
        await visitor.disengage(admission.call)
        await visitor.unregister()
    finally:
        visitor.close()


def the_gatekeepers_own(zone: HostedZone, council: Council, first: Peer, second: Peer) -> None:
    """IRQ, DRQ and URQ, each with its answer."""
    (session,) = zone.sessions(first.terminal_id)
    zone.http.delete(f"/api/admission/session/{session['session_id']}").raise_for_status()
    first.confirm("disengageRequest", "disengageConfirm")
    zone.let_pass(2 * ROOM_IRR_S)
    for _ in (B, C):
        (_, asked), _ = second.expect("infoRequest")
        second.say(second.protected(second.irr(B, C, sequence=asked["requestSeqNum"])))
    zone.settle()
    assert len(zone.sessions(second.terminal_id)) == 2
    elsewhere = zone.guardian(council.guardian(0))
    assert elsewhere.register()[0] == "registrationConfirm"
    first.confirm("unregistrationRequest", "unregistrationConfirm")
    zone.settle()


def direct(directory: Path, council: Council, recorder: Recorder) -> set[int]:
    """Two guardians call each other directly, with our token; a third finds the zone full."""
    config = write_config(directory, council, gatekeeper={"call_model": "direct", "max_registrations": 2})
    with hosted(config, recorder) as zone:
        caller, callee, third = (zone.guardian(council.guardian(number)) for number in range(3))
        assert caller.register()[0] == callee.register()[0] == "registrationConfirm"
        assert refusal(third.register()) == ("registrationReject", "resourceUnavailable")
        answer = caller.admit(A, to=("h323-ID", callee.name))
        tokens = [token for token in answer[1]["tokens"] if token["tokenOID"] == oids.CALL_TOKEN]
        assert callee.admit(A, answerCall=True, tokens=tokens)[0] == "admissionConfirm"
        return {port for _, port in zone.ras}


def restarted(directory: Path, council: Council, recorder: Recorder) -> set[int]:
    """After a restart every answer brings a fresh challenge."""
    config = write_config(directory, council)
    with hosted(config, recorder) as zone:
        peer = zone.guardian(council.guardian(0))
        assert peer.register()[0] == "registrationConfirm"
        assert peer.admit(A)[0] == "admissionConfirm"
        address, port = peer.source, zone.ras[0][1]
    with hosted(write_config(directory, council, ras={"port": port}), recorder) as zone:
        again = zone.guardian(council.guardian(0), host=address[0], port=address[1])
        again.session, again.counter, again.endpoint_identifier = peer.session, peer.counter, peer.endpoint_identifier
        for message in (again.brq(A), again.drq(A), again.urq()):
            assert refusal(again.ask(message))[1] == "securityDenial"
        assert refusal(again.admit(B))[1] == "securityDenial"
        again.renew(again.ask(again.keep_alive()))
        assert again.ask(again.urq())[0] == "unregistrationConfirm"
        return {port}


# tshark's opinion


def test_nothing_is_malformed(capture: Capture) -> None:
    complaints = {
        f"{name}: {complaint}"
        for (name, _), dissected in zip(capture.messages, capture.dissected, strict=True)
        for complaint in dissected.complaints
    }
    assert not complaints


def test_it_reads_the_same_messages_in_the_same_order(capture: Capture) -> None:
    ours = [(name, str(value["requestSeqNum"])) for name, value in capture.messages]
    assert [(dissected.name, dissected.request_seq_num) for dissected in capture.dissected] == ours


def test_no_kind_of_message_was_left_out(capture: Capture) -> None:
    sent = {name for name, _ in capture.messages}
    assert sent >= {
        *(f"gatekeeper{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"registration{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"unregistration{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"admission{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"bandwidth{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"disengage{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"location{kind}" for kind in ("Request", "Confirm", "Reject")),
        *(f"infoRequest{kind}" for kind in ("", "Response", "Ack", "Nak")),
        *(f"resourcesAvailable{kind}" for kind in ("Indicate", "Confirm")),
        *(f"serviceControl{kind}" for kind in ("Indication", "Response")),
        "unknownMessageResponse",
        "requestInProgress",
    }


def test_it_would_have_complained(capture: Capture, tmp_path: Path) -> None:
    """The same messages, each without its second half: tshark says so of every one."""
    path = tmp_path / "cut.pcap"
    write_pcap(path, [replace(datagram, data=datagram.data[: len(datagram.data) // 2]) for datagram in capture.datagrams])
    assert all(dissected.complaints for dissected in dissect(path, capture.ports))
