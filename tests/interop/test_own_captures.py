"""Our own runs with a real endpoint: what was recorded is sound, and the core still answers those octets in the same way.

Who recorded them, when and how: ``tests/vectors/own/README.md``.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatekeeperd.capture.check import check
from gatekeeperd.capture.dissect import Dissector, Pdu, Protocol
from gatekeeperd.capture.files import read_frames
from gatekeeperd.core.actions import Action, Send
from gatekeeperd.core.gatekeeper import Gatekeeper
from gatekeeperd.core.ras.vouching import VouchedAdmission
from gatekeeperd.core.settings import CallModel, Settings
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.vouch import sign_vouch
from gatekeeperd.wire import h225

OWN = Path(__file__).parents[1] / "vectors" / "own"
GATEKEEPER = ("10.77.0.1", 1719)
ALICE, BOB, CAROL = "10.77.0.11", "10.77.0.12", "10.77.0.13"

SHORT = {
    "gatekeeper": "G",
    "registration": "R",
    "unregistration": "U",
    "admission": "A",
    "disengage": "D",
}
NAMES = {"infoRequest": "IRQ", "infoRequestResponse": "IRR", "requestInProgress": "RIP"} | {
    f"{long}{kind}": f"{short}{letter}"
    for long, short in SHORT.items()
    for kind, letter in (("Request", "RQ"), ("Confirm", "CF"), ("Reject", "RJ"))
}

#: What each endpoint and the gatekeeper said to each other, in its order.
CONVERSATIONS = {
    "01-unsigned-direct-call": {
        ALICE: "GRQ GCF RRQ RCF keepAlive RCF ARQ ARJ:calledPartyNotRegistered ARQ ACF DRQ DCF URQ UCF",
        BOB: "GRQ GCF RRQ RCF keepAlive RCF ARQ ACF DRQ DCF URQ UCF",
        CAROL: "GRQ GCF RRQ RRJ:duplicateAlias",
    },
    "02-frozen-endpoint": {
        ALICE: "GRQ GCF RRQ RCF IRQ IRQ IRQ URQ:ttlExpired keepAlive IRR IRR IRR UCF RRJ:fullRegistrationRequired RRQ RCF "
        "keepAlive RCF URQ UCF",
    },
    "03-vouched-one-call": {
        ALICE: "GRQ GCF RRQ RRJ:securityDenial GRQ GCF RRQ RCF ARQ ACF DRQ IRQ IRR RIP DCF ARQ ARJ:securityDenial "
        "URQ IRQ RIP IRR UCF",
        BOB: "GRQ GCF RRQ RCF ARQ ACF DRQ IRQ IRR RIP DCF URQ IRQ RIP IRR UCF",
    },
    "04-h235-1-call": {
        ALICE: "GRQ GCF RRQ RRJ:securityDenial GRQ GCF RRQ RCF ARQ ACF DRQ DCF keepAlive RCF URQ UCF",
        BOB: "GRQ GCF RRQ RCF ARQ ACF DRQ DCF keepAlive RCF URQ UCF",
    },
}


def pdus(name: str) -> list[Pdu]:
    items = list(Dissector().dissect(read_frames(OWN / f"{name}.pcap")))
    assert all(isinstance(item, Pdu) for item in items)
    return [item for item in items if isinstance(item, Pdu)]


def said(name: str, value: dict[str, Any]) -> str:
    """``RRQ``, ``keepAlive``, ``RRJ:duplicateAlias``."""
    reason = value.get("rejectReason") or (value.get("reason") if name == "unregistrationRequest" else None)
    short = "keepAlive" if value.get("keepAlive") else NAMES[name]
    return f"{short}:{reason[0]}" if reason else short


def test_each_capture_has_its_conversation():
    assert {path.stem for path in OWN.glob("*.pcap")} == set(CONVERSATIONS)
    assert all(path.stat().st_size < 100_000 for path in OWN.iterdir())


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_conversation_is_as_told(name):
    heard = defaultdict(list)
    for pdu in pdus(name):
        if pdu.protocol is Protocol.RAS:
            ends = (pdu.origin.source, pdu.origin.destination)
            assert GATEKEEPER in ends
            (peer,) = (host for host, _ in ends if host != GATEKEEPER[0])
            heard[peer].append(said(pdu.name, pdu.value[1]))
    assert {peer: " ".join(words) for peer, words in heard.items()} == CONVERSATIONS[name]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_message_is_encoded_again_to_the_same_value(name):
    for pdu in pdus(name):
        assert check(pdu).fault is None, f"frame {pdu.origin.frame}"


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tshark_finds_nothing_malformed(name):
    tshark = shutil.which("tshark")
    assert tshark is not None, "what was not looked at has not passed"
    fields = ("_ws.malformed", "h225.RasMessage", "q931.message_type")
    command = [tshark, "-n", "-r", str(OWN / f"{name}.pcap"), "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    malformed, ras, q931 = zip(*(row.split("\t") for row in rows), strict=True)
    assert not any(malformed)
    found = [pdu.protocol for pdu in pdus(name)]
    assert sum(map(bool, ras)) == found.count(Protocol.RAS)
    assert sum(len(kinds.split(",")) for kinds in q931 if kinds) == found.count(Protocol.Q931)


# The same octets again, to the core


def guardian(name: str, key: KeyPair, *aliases: str) -> Guardian:
    return Guardian(
        terminal_id=f"if://guardian/{name}",
        public_key=key.public,
        role=name,
        description="",
        archetype="test",
        bandwidth_quota_bps=2_000_000,
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
        status=GuardianStatus.ACTIVE,
        veto_power=False,
        specialization=(),
        aliases=aliases,
    )


KEYS = {name: KeyPair.from_seed(name.encode().ljust(32)) for name in ("technical", "civic")}
DIRECT = {"call_model": CallModel.DIRECT, "irr_frequency_s": 10}


class Replay:
    """A core at the time of the capture, that gives the numbers and endpointIdentifiers which were given then."""

    def __init__(self, started: float, guardians: tuple[Guardian, ...], settings: dict[str, Any]) -> None:
        self.identifiers: list[bytes] = []
        self.started = started
        self.now = 0.0
        self.core = Gatekeeper(
            Settings(
                gatekeeper_identifier="council",
                ras_addresses=(GATEKEEPER,),
                call_signal_addresses=(("10.77.0.1", 1720),),
                **DIRECT | settings,
            ),
            Registry(guardians, "00"),
            service_key=KeyPair.from_seed(b"s" * 32),
            epoch=1,
            stored={},
            now=self.now,
            wall=lambda now: started + now,
            randbytes=self._randbytes,
        )
        self.answers: dict[str, list[str]] = defaultdict(list)

    def _randbytes(self, count: int) -> bytes:
        if count == 16 and self.identifiers:
            return self.identifiers.pop()
        # Two octets are where the numbers of the gatekeeper's own requests begin: from 1, as the recorded daemon did.
        return bytes(2) if count == 2 else secrets.token_bytes(count)

    def vouch(self, terminal: str, alias: str, host: str) -> None:
        body = {
            "terminal_id": f"if://guardian/{terminal}",
            "call_id": "council",
            "call_type": "ROUTINE",
            "bandwidth_bps": 512_000,
            "has_pii": False,
            "timestamp": int(self.started + self.now),
            "nonce": secrets.token_hex(16),
            "endpoint_alias": alias,
            "endpoint_address": host,
        }
        answer, commit = self.core.admit(VouchedAdmission(**sign_vouch(body, KEYS[terminal])), self.now)
        self.carry_out([commit])
        assert answer.admitted

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                name, value = h225.decode_ras(action.data)
                self.answers[action.to[0]].append(said(name, value))
            else:
                self.core.committed(action.ticket, self.now)
                self.carry_out(list(action.then))

    def advance(self, until: float) -> None:
        while (due := self.core.get_timer()) is not None and due <= until:
            self.now = due
            self.carry_out(self.core.handle_timer(due))
        self.now = until


def vouch_after_the_first_refusal(replay: Replay, pdu: Pdu) -> None:
    if said(pdu.name, pdu.value[1]) == "RRJ:securityDenial":
        replay.vouch("technical", "alice", ALICE)
        replay.vouch("civic", "bob", BOB)


REPLAYS: dict[str, tuple[tuple[Guardian, ...], dict[str, Any], Callable[[Replay, Pdu], None] | None]] = {
    "01-unsigned-direct-call": ((), {"allow_unsigned": True, "time_to_live_s": 10}, None),
    "02-frozen-endpoint": ((), {"allow_unsigned": True, "time_to_live_s": 10}, None),
    "03-vouched-one-call": (
        tuple(guardian(name, key) for name, key in KEYS.items()),
        {"time_to_live_s": 60},
        vouch_after_the_first_refusal,
    ),
    "04-h235-1-call": (
        (guardian("galice", KEYS["technical"], "alice", "1001"), guardian("gbob", KEYS["civic"], "bob", "1002")),
        {"time_to_live_s": 20, "passwords": {"alice": "secretA-8chars", "bob": "secretB-8chars"}},
        None,
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_core_answers_the_recorded_requests_as_the_daemon_did(name):
    guardians, settings, meanwhile = REPLAYS[name]
    ras = [pdu for pdu in pdus(name) if pdu.protocol is Protocol.RAS]
    # A second before the first message: the core refuses passwords' time stamps of before its start.
    started = ras[0].origin.time - 1
    replay = Replay(started, guardians, settings)
    recorded: dict[str, list[str]] = defaultdict(list)
    for position, pdu in enumerate(ras):
        message, value = pdu.value
        if pdu.origin.source == GATEKEEPER:
            recorded[pdu.origin.destination[0]].append(said(message, value))
            if meanwhile is not None:
                meanwhile(replay, pdu)
            continue
        replay.advance(pdu.origin.time - started)
        replay.identifiers = identifiers_given(ras[position:], pdu)
        replay.carry_out(replay.core.receive_datagram(pdu.octets, pdu.origin.source, replay.now))
    assert replay.answers == recorded
    assert (replay.core.registration_count, replay.core.call_count) == (0, 0)
    # The frozen endpoint's answers to three IRQs came when it was no longer registered.
    assert replay.core.stats.dropped.total() == (3 if name == "02-frozen-endpoint" else 0)


def identifiers_given(later: list[Pdu], request: Pdu) -> list[bytes]:
    """Return the endpointIdentifier of the RCF that the daemon answered a full RRQ with, if it did."""
    if said(request.name, request.value[1]) != "RRQ":
        return []
    confirms = (pdu for pdu in later if pdu.name == "registrationConfirm" and pdu.origin.destination == request.origin.source)
    sequence = request.value[1]["requestSeqNum"]
    given = (pdu.value[1]["endpointIdentifier"] for pdu in confirms if pdu.value[1]["requestSeqNum"] == sequence)
    return [bytes.fromhex(identifier) for identifier in given][:1]
