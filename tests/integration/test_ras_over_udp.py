"""RAS over real sockets beyond one visit: IPv6, multicast, kill -9, reloads, a disk that stands still, endpoints that vanish."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ras_peer import Peer, Zone, daemon_process, eventually, hosted, standing_disk, write_config
from ras_speaker import Message, reason
from running_daemon import Council, make_council, vouching

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import read_transport_address
from gatekeeperd.net.committer import STALLED_S
from gatekeeperd.net.ras import DISCOVERY_GROUP
from gatekeeperd.policy.registry import GuardianStatus
from gatekeeperd.policy.registry_edit import set_status
from gatekeeperd.security.session import Exchange
from gatekeeperd.security.tokens import read_challenge
from gatekeeperd.wire import h225

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
#: The floor in units of 100 bit/s: a guardian may have three such calls.
SMALL = 1_280


@pytest.fixture
def council(tmp_path: Path) -> Council:
    return make_council(tmp_path)


def registered(zone: Zone, council: Council, number: int, **where: Any) -> Peer:
    peer = zone.guardian(council.guardian(number), **where)
    assert peer.register()[0] == "registrationConfirm"
    return peer


# Addresses


def test_a_signed_visit_over_ipv6(tmp_path: Path, council: Council) -> None:
    with hosted(write_config(tmp_path, council, ras={"bind": ["127.0.0.1", "::1"]})) as zone:
        ours = next(address for address in zone.ras if address[0] == "::1")
        peer = zone.guardian(council.guardian(0), host="::1")
        name, found = h225.decode_ras(peer.exchange(h225.encode_ras(peer.grq())))
        assert (name, read_transport_address(found["rasAddress"])) == ("gatekeeperConfirm", ours)
        name, accepted = peer.register()
        assert (name, read_transport_address(accepted["callSignalAddress"][0])) == ("registrationConfirm", ("::1", 1720))
        name, admitted = peer.admit(A)
        assert (name, read_transport_address(admitted["destCallSignalAddress"])) == ("admissionConfirm", ("::1", 1720))
        for message, answer in (
            (peer.keep_alive(), "registrationConfirm"),
            (peer.brq(A), "bandwidthConfirm"),
            (peer.irr(A, needResponse=True), "infoRequestAck"),
            (peer.drq(A), "disengageConfirm"),
            (peer.urq(), "unregistrationConfirm"),
        ):
            data = peer.exchange(peer.protected(message))
            assert h225.decode_ras(data)[0] == answer
            assert peer.is_authentic(data)
        assert zone.metrics()["registered_endpoints"] == 0


def test_an_ipv6_registration_is_not_used_from_ipv4(tmp_path: Path, council: Council) -> None:
    with hosted(write_config(tmp_path, council, ras={"bind": ["127.0.0.1", "::1"]})) as zone:
        peer = registered(zone, council, 0, host="::1")
        thief = zone.peer("thief", port=peer.source[1])
        pdu = peer.signed(peer.arq(A))
        answer = h225.decode_ras(thief.exchange(pdu))
        assert (answer[1]["rejectReason"], reason(answer)) == (("securityDenial", None), "INVALID_SIGNATURE")
        assert h225.decode_ras(peer.exchange(pdu))[0] == "admissionConfirm"


def test_a_guardian_finds_us_by_multicast_and_registers(tmp_path: Path, council: Council) -> None:
    """Multicast on loopback, which never leaves this machine; other gatekeepers of this machine may answer as well."""
    heard: list[Message] = []

    def tap(source: TransportAddress, destination: TransportAddress, data: bytes) -> None:
        if source == zone.ras[0] and destination == peer.source:
            heard.append(h225.decode_ras(data))

    with hosted(write_config(tmp_path, council, ras={"multicast": True}), tap) as zone:
        assert zone.ready["multicast"], "the loopback interface of this machine joins no multicast group"
        peer = zone.guardian(council.guardian(0))
        peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        # On the group, who is not meant or can't tell keeps silent.
        for message in (peer.grq(gatekeeperIdentifier="elsewhere"), peer.lrq(("h323-ID", "nobody")), peer.grq()):
            peer.say(h225.encode_ras(message), to=DISCOVERY_GROUP)
        while not heard:
            peer.hear()
        (found,) = heard
        assert (found[0], found[1]["requestSeqNum"]) == ("gatekeeperConfirm", 3)
        assert read_transport_address(found[1]["rasAddress"]) == zone.ras[0]
        challenge = read_challenge(found)
        assert challenge is not None
        answer = h225.decode_ras(peer.exchange(peer.signed_rrq(peer.rrq(), challenge, Exchange.generate())))
        assert answer[0] == "registrationConfirm"


# The process dies


def verify(zone: Zone) -> dict[str, Any]:
    """Run ``councilctl witness verify`` over a daemon's log."""
    command = [sys.executable, "-m", "gatekeeperd.cli.council", "witness", "verify", zone.ready["witness"], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_kill_9_with_registrations_and_calls(tmp_path: Path, council: Council) -> None:
    with daemon_process(write_config(tmp_path, council)) as (daemon, zone):
        one, two = registered(zone, council, 0), registered(zone, council, 1)
        pdu = one.signed(one.arq(A))
        answer = one.exchange(pdu)
        assert h225.decode_ras(answer)[0] == "admissionConfirm"
        assert two.admit(B)[0] == "admissionConfirm"
        before = zone.sessions()
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        with daemon_process(write_config(tmp_path, council, ras={"port": zone.ras[0][1]})) as (_, again):
            assert again.ready["epoch"] == 2
            assert again.sessions() == before
            assert one.exchange(pdu) == answer, "the repeated request gets the very octets of before"
            assert again.sessions() == before
            for peer in (one, two):
                alive = peer.ask(peer.keep_alive())
                assert alive[0] == "registrationConfirm"
                stale = peer.ask(peer.drq(A))
                assert stale[1]["rejectReason"] == ("securityDenial", None)
                assert read_challenge(stale) == read_challenge(alive)
                peer.renew(alive)
                assert read_challenge(peer.ask(peer.keep_alive())) is None
            assert one.ask(one.drq(A))[0] == "disengageConfirm"
            assert one.admit(C)[0] == "admissionConfirm"
            assert {session["trace_id"] for session in again.sessions()} == {B.hex(), C.hex()}
            verify(again)
            granted = [record["trace_id"] for record in again.records("admission.granted")]
            assert granted == [A.hex(), B.hex(), C.hex()]


def test_kill_9_amid_admissions_loses_nothing_that_was_answered(tmp_path: Path, council: Council) -> None:
    with daemon_process(write_config(tmp_path, council)) as (daemon, zone):
        peers = [registered(zone, council, number) for number in range(8)]
        asked = [(peer, bytes([call, number]) * 8) for call in (1, 2, 3) for number, peer in enumerate(peers)]
        pdus = {guid: peer.signed(peer.arq(guid, bandwidth=SMALL)) for peer, guid in asked}
        for peer, guid in asked:
            peer.say(pdus[guid])
        answers = [peers[0].hear()]  # one is answered; the others may be anywhere
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        answers += [data for peer in peers for data in peer.arrived()]
        confirms = {data for data in answers if h225.decode_ras(data)[0] == "admissionConfirm"}
        with daemon_process(write_config(tmp_path, council, ras={"port": zone.ras[0][1]})) as (_, again):
            verify(again)
            kept = {session["trace_id"] for session in again.sessions()}
            assert kept == {record["trace_id"] for record in again.records("admission.granted")}
            repeated = {guid.hex(): peer.exchange(pdus[guid]) for peer, guid in asked}
            granted = {guid for guid, data in repeated.items() if h225.decode_ras(data)[0] == "admissionConfirm"}
            assert granted == kept, "decided and durable, or neither"
            assert confirms <= set(repeated.values()), "what was answered is answered again, octet for octet"


# The registry changes


def test_a_revoked_guardian_is_put_out_and_a_broken_registry_changes_nothing(tmp_path: Path, council: Council) -> None:
    with daemon_process(write_config(tmp_path, council)) as (daemon, zone):

        def reload(outcome: str) -> None:
            name = f'registry_reloads_total{{result="{outcome}"}}'
            before = zone.metrics()[name]
            daemon.send_signal(signal.SIGHUP)
            eventually(lambda: zone.metrics()[name] == before + 1)
            zone.settle()

        def revoked_stays_out() -> None:
            answer = revoked.register()
            assert (answer[1]["rejectReason"], reason(answer)) == (("securityDenial", None), "NOT_REGISTERED")
            assert other.ask(other.keep_alive())[0] == "registrationConfirm"
            assert [session["trace_id"] for session in zone.sessions()] == [B.hex()]

        revoked, other = registered(zone, council, 0), registered(zone, council, 1)
        assert revoked.admit(A)[0] == other.admit(B)[0] == "admissionConfirm"
        set_status(council.registry, revoked.terminal_id, GuardianStatus.REVOKED)
        reload("ok")
        assert revoked.confirm("disengageRequest", "disengageConfirm")[1]["callIdentifier"] == {"guid": A}
        assert revoked.confirm("unregistrationRequest", "unregistrationConfirm")[1]["reason"] == ("securityDenial", None)
        assert revoked.ask(revoked.keep_alive())[1]["rejectReason"] == ("fullRegistrationRequired", None)
        revoked_stays_out()
        assert other.rest() == []

        good = council.registry.read_text()
        broken = good.replace("status: revoked", "status: forgiven")
        council.registry.write_text(broken)
        reload("failed")
        revoked_stays_out()
        line = broken[: broken.index("status: forgiven")].count("\n") + 1
        (failed,) = zone.records("registry.reload_failed")
        assert failed["payload"] == {"file": council.registry.name, "line": line, "field": "guardians[0].status"}

        council.registry.write_text(good.replace("status: revoked", "status: active"))
        reload("ok")
        assert revoked.register()[0] == "registrationConfirm"


# The disk stands still


def test_while_the_disk_stands_still_nothing_is_promised(tmp_path: Path, council: Council) -> None:
    with hosted(write_config(tmp_path, council)) as zone:
        one, two = registered(zone, council, 0), registered(zone, council, 1)
        assert zone.http.get("/readyz").status_code == 200
        with standing_disk():
            pdu = one.signed(one.arq(A))
            one.say(pdu)
            assert two.ask(two.keep_alive())[0] == "registrationConfirm", "tells of nothing that has to be durable"
            zone.let_pass(1)
            (_, told), data = one.expect("requestInProgress")
            assert told["requestSeqNum"] == h225.decode_ras(pdu)[1]["requestSeqNum"]
            assert one.is_authentic(data)
            one.say(pdu)
            assert two.ask(two.keep_alive())[0] == "registrationConfirm"
            assert one.rest() == [], "neither a second promise nor an answer"
            assert zone.metrics()['ras_dropped_total{reason="retransmission"}'] == 1
            zone.let_pass(STALLED_S)
            answer = zone.http.get("/readyz")
            assert (answer.status_code, answer.json()["reason"]) == (503, "NOT_READY")
            answer = zone.http.post("/api/admission/request", json=vouching(council.guardian(2)))
            assert (answer.status_code, answer.json()["reason"]) == (503, "NOT_READY")
            metrics = zone.metrics()
            assert metrics['up{instance="test",role="standalone"}'] == 0
            assert metrics["witness_lag_records"] >= 1
        answer = one.answer_to(pdu)
        assert h225.decode_ras(answer)[0] == "admissionConfirm"
        eventually(lambda: zone.http.get("/readyz").status_code == 200)
        assert one.exchange(pdu) == answer
        assert len(zone.records("admission.granted")) == 1
        assert one.rest() == []
        verify(zone)


# Endpoints that say no more


def test_an_endpoint_that_vanished_is_asked_then_forgotten_with_its_calls(tmp_path: Path, council: Council) -> None:
    with hosted(write_config(tmp_path, council)) as zone:
        gone, here = registered(zone, council, 0), registered(zone, council, 1)
        assert gone.admit(A)[0] == here.admit(B)[0] == "admissionConfirm"
        zone.let_pass(60)
        (_, asked), _ = here.expect("infoRequest")
        assert here.ask(here.irr(B, sequence=asked["requestSeqNum"], needResponse=True))[0] == "infoRequestAck"
        for _ in range(3):
            assert gone.is_authentic(gone.expect("infoRequest")[1])
            zone.let_pass(3)
        assert gone.confirm("unregistrationRequest", "unregistrationConfirm")[1]["reason"] == ("ttlExpired", None)
        zone.settle()
        assert [session["trace_id"] for session in zone.sessions()] == [B.hex()]
        (ended,) = zone.records("call.ended")
        assert (ended["trace_id"], ended["payload"]["cause"]) == (A.hex(), "expired")
        assert here.ask(here.keep_alive())[0] == "registrationConfirm"


def test_a_vouched_room_system_registers_and_calls_once(tmp_path: Path, council: Council) -> None:
    with hosted(write_config(tmp_path, council)) as zone:
        room, elsewhere = zone.peer("boardroom"), zone.peer("boardroom")
        body = vouching(council.guardian(0), endpoint_alias=room.name, endpoint_address=room.source[0])
        assert zone.http.post("/api/admission/request", json=body).status_code == 200
        assert reason(elsewhere.register()) == "INVALID_SIGNATURE"
        assert room.register()[0] == "registrationConfirm"
        assert room.admit(A)[0] == "admissionConfirm"
        answer = room.admit(B)
        assert (answer[1]["rejectReason"], reason(answer)) == (("securityDenial", None), "INVALID_SIGNATURE")
        assert [session["kind"] for session in zone.sessions()] == ["call"]
