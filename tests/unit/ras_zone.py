"""A gatekeeper core without sockets, and hand-made peers: tests say exactly which octets arrive from where and when."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from gatekeeperd.core.actions import Action, Commit, Record, Send, TransportAddress
from gatekeeperd.core.gatekeeper import Gatekeeper
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, transport_address
from gatekeeperd.core.settings import Settings
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry
from gatekeeperd.security.credential import CallType, Claims, sign_message
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.service import accept_session
from gatekeeperd.security.session import Direction, Exchange, Session, check, protect
from gatekeeperd.security.tokens import challenge_token, read_challenge, with_tokens
from gatekeeperd.wire import h225

WALL = 1_800_000_000.0
RAS = ("192.0.2.1", 1719)
TERMINAL = {"terminal": {}, "mc": False, "undefinedNode": False}
VENDOR = {"vendor": {"t35CountryCode": 9, "t35Extension": 0, "manufacturerCode": 61}}
SERVICE = KeyPair.from_seed(b"s" * 32)

Message = tuple[str, dict[str, Any]]


def guardian(name: str, key: KeyPair, **more: Any) -> Guardian:
    base = Guardian(
        terminal_id=f"if://guardian/{name}",
        public_key=key.public,
        role=name,
        description="",
        archetype="test",
        bandwidth_quota_bps=2_500_000,
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
        status=GuardianStatus.ACTIVE,
        veto_power=False,
        specialization=(),
    )
    return replace(base, **more)


class Zone:
    """One gatekeeper with the store that outlives it. ``sent`` and ``records`` hold what left and what was recorded, in order."""

    def __init__(self, guardians: list[Guardian] | tuple[Guardian, ...] = (), **settings: Any) -> None:
        self.now = 100.0
        self.random = Random(1)
        self.settings = Settings(
            **{
                "gatekeeper_identifier": "council",
                "ras_addresses": (RAS, ("2001:db8::1", 1719)),
                "call_signal_addresses": (("192.0.2.1", 1720), ("2001:db8::1", 1720)),
                **settings,
            }
        )
        self.registry = Registry(tuple(guardians), "00")
        self.stored: dict[str, dict[str, bytes]] = {}
        self.records: list[Record] = []
        self.epoch = 0
        self.hold = False
        self.held: list[Commit] = []
        self.boot()

    def boot(self) -> None:
        """Start, or start again from what the store holds, as after ``kill -9``."""
        self.epoch += 1
        self.held.clear()
        self.core = Gatekeeper(
            self.settings,
            self.registry,
            service_key=SERVICE,
            epoch=self.epoch,
            stored=self.stored,
            now=self.now,
            wall=lambda now: WALL + now,
            randbytes=self.random.randbytes,
        )

    def deliver(self, data: bytes, source: TransportAddress, *, multicast: bool = False) -> list[Send]:
        return self.carry_out(self.core.receive_datagram(data, source, self.now, multicast=multicast))

    def carry_out(self, actions: list[Action]) -> list[Send]:
        """Do what the shell does; while ``hold`` is set commits wait in ``held``, as on a slow disk."""
        sends: list[Send] = []
        for action in actions:
            if isinstance(action, Send):
                sends.append(action)
            elif self.hold:
                self.held.append(action)
            else:
                sends += self.make_durable(action)
        return sends

    def make_durable(self, commit: Commit) -> list[Send]:
        for change in commit.changes:
            kind = self.stored.setdefault(change.kind, {})
            if change.value is None:
                kind.pop(change.key, None)
            else:
                kind[change.key] = change.value
        self.records += commit.records
        self.core.committed(commit.ticket, self.now)
        return list(commit.then)

    def release(self) -> list[Send]:
        self.hold = False
        waiting, self.held = self.held, []
        return [send for commit in waiting for send in self.make_durable(commit)]

    def advance(self, seconds: float) -> list[Send]:
        """Let time pass, stopping at each timer."""
        sends: list[Send] = []
        end = self.now + seconds
        while (due := self.core.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            sends += self.carry_out(self.core.handle_timer(self.now))
        self.now = end
        return sends

    def events(self, name: str | None = None) -> list[str]:
        return [record.event for record in self.records if name in {None, record.event}]


class Peer:
    """An endpoint that says what the test tells it to; ``session`` once it has signed in."""

    def __init__(self, zone: Zone, host: str, name: str, key: KeyPair | None = None, *, port: int = 5000) -> None:
        self.zone = zone
        self.source = (host, port)
        self.signal = (host, 1720)
        self.name = name
        self.terminal_id = f"if://guardian/{name}"
        self.key = key
        self.session: Session | None = None
        self.endpoint_identifier = ""
        self.sequence = itertools.count(1)
        self.counter = itertools.count(1)

    # Messages

    def grq(self, **more: Any) -> Message:
        alias = [("url-ID", self.terminal_id)] if self.key else [("h323-ID", self.name)]
        return (
            "gatekeeperRequest",
            {
                "requestSeqNum": next(self.sequence),
                "protocolIdentifier": PROTOCOL_IDENTIFIER,
                "rasAddress": transport_address(self.source),
                "endpointType": TERMINAL,
                "endpointAlias": alias,
            }
            | more,
        )

    def rrq(self, **more: Any) -> Message:
        aliases = [("h323-ID", self.name)] + ([("url-ID", self.terminal_id)] if self.key else [])
        return (
            "registrationRequest",
            {
                "requestSeqNum": next(self.sequence),
                "protocolIdentifier": PROTOCOL_IDENTIFIER,
                "discoveryComplete": True,
                "callSignalAddress": [transport_address(self.signal)],
                "rasAddress": [transport_address(self.source)],
                "terminalType": TERMINAL,
                "terminalAlias": aliases,
                "endpointVendor": VENDOR,
                "timeToLive": 60,
                "keepAlive": False,
                "willSupplyUUIEs": False,
                "maintainConnection": False,
            }
            | more,
        )

    def keep_alive(self, **more: Any) -> Message:
        return self.rrq(**{"keepAlive": True, "endpointIdentifier": self.endpoint_identifier, "terminalAlias": []} | more)

    def arq(
        self, guid: bytes = b"\x01" * 16, *, to: Any = ("h323-ID", "council"), bandwidth: int = 5_000, **more: Any
    ) -> Message:
        return (
            "admissionRequest",
            {
                "requestSeqNum": next(self.sequence),
                "callType": ("pointToPoint", None),
                "endpointIdentifier": self.endpoint_identifier,
                "destinationInfo": [to],
                "srcInfo": [("h323-ID", self.name)],
                "bandWidth": bandwidth,
                "callReferenceValue": 7,
                "conferenceID": guid,
                "activeMC": False,
                "answerCall": False,
                "canMapAlias": True,
                "callIdentifier": {"guid": guid},
                "willSupplyUUIEs": False,
            }
            | more,
        )

    def _call(self, name: str, guid: bytes, body: dict[str, Any], more: dict[str, Any]) -> Message:
        common = {
            "requestSeqNum": next(self.sequence),
            "endpointIdentifier": self.endpoint_identifier,
            "conferenceID": guid,
            "callReferenceValue": 7,
            "callIdentifier": {"guid": guid},
        }
        return name, common | body | more

    def brq(self, guid: bytes = b"\x01" * 16, *, bandwidth: int = 8_000, **more: Any) -> Message:
        return self._call("bandwidthRequest", guid, {"bandWidth": bandwidth}, more)

    def drq(self, guid: bytes = b"\x01" * 16, **more: Any) -> Message:
        return self._call("disengageRequest", guid, {"disengageReason": ("normalDrop", None), "answeredCall": False}, more)

    def urq(self, **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "callSignalAddress": [transport_address(self.signal)],
            "endpointIdentifier": self.endpoint_identifier,
        }
        return "unregistrationRequest", body | more

    def irr(self, *guids: bytes, sequence: int | None = None, **more: Any) -> Message:
        body: dict[str, Any] = {
            "requestSeqNum": sequence or next(self.sequence),
            "endpointType": TERMINAL,
            "endpointIdentifier": self.endpoint_identifier,
            "rasAddress": transport_address(self.source),
            "callSignalAddress": [transport_address(self.signal)],
            "needResponse": False,
            "unsolicited": sequence is None,
        }
        if guids:
            body["perCallInfo"] = [
                {
                    "callReferenceValue": 7,
                    "conferenceID": guid,
                    "h245": {},
                    "callSignalling": {},
                    "callType": ("pointToPoint", None),
                    "bandWidth": 5_000,
                    "callModel": ("gatekeeperRouted", None),
                    "callIdentifier": {"guid": guid},
                }
                for guid in guids
            ]
        return "infoRequestResponse", body | more

    def rai(self, *, low: bool, **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "protocolIdentifier": PROTOCOL_IDENTIFIER,
            "endpointIdentifier": self.endpoint_identifier,
            "protocols": [],
            "almostOutOfResources": low,
        }
        return "resourcesAvailableIndicate", body | more

    def lrq(self, alias: tuple[str, str], **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "destinationInfo": [alias],
            "replyAddress": transport_address(self.source),
            "endpointIdentifier": self.endpoint_identifier or "nobody",
        }
        return "locationRequest", body | more

    # Sending

    def protected(self, message: Message, *, counter: int | None = None) -> bytes:
        """Write a message with the proof that it needs: a MAC, and for an ARQ the credential too."""
        if self.session is None:
            return h225.encode_ras(message)
        return protect(message, self.session, counter or next(self.counter), Direction.TO_GATEKEEPER)

    def signed(self, message: Message, *, key: KeyPair | None = None, session: Session | None = None, **claims: Any) -> bytes:
        """Sign an ARQ for what it asks for, unless ``claims`` say otherwise."""
        assert self.session is not None
        assert self.key is not None
        defaults = {
            "call_id": "weekly",
            "call_type": CallType.ROUTINE,
            "bandwidth_bps": message[1]["bandWidth"] * 100,
            "counter": next(self.counter),
        }
        session = session or self.session
        stated = Claims(claims.pop("terminal_id", self.terminal_id), **(defaults | claims))
        return sign_message(message, stated, key or self.key, session.challenge, session=session)

    def send(self, pdu: bytes, *, source: TransportAddress | None = None) -> list[Message]:
        """Deliver and return what came back to that source, decoded."""
        source = source or self.source
        answers = [send for send in self.zone.deliver(pdu, source) if send.to == source]
        return [h225.decode_ras(send.data) for send in answers]

    def ask(self, message: Message) -> Message:
        """Send with MAC and expect one answer."""
        (answer,) = self.send(self.protected(message))
        return answer

    def admit(self, guid: bytes = b"\x01" * 16, *, claims: Mapping[str, Any] | None = None, **more: Any) -> Message:
        message = self.arq(guid, **more)
        (answer,) = self.send(self.signed(message, **(claims or {})) if self.session else h225.encode_ras(message))
        return answer

    def challenge(self) -> bytes:
        (answer,) = self.send(h225.encode_ras(self.grq()))
        challenge = read_challenge(answer)
        assert challenge is not None
        return challenge

    def signed_rrq(self, message: Message, challenge: bytes, exchange: Exchange, key: KeyPair | None = None) -> bytes:
        key = key or self.key
        assert key is not None
        message = with_tokens(message, challenge_token(challenge))
        return sign_message(message, Claims(self.terminal_id), key, challenge, key_exchange=exchange.public)

    def register(self, **more: Any) -> Message:
        """Register as this peer can: signing, or plainly."""
        if self.key is None:
            (answer,) = self.send(h225.encode_ras(self.rrq(**more)))
        else:
            exchange = Exchange.generate()
            pdu = self.signed_rrq(self.rrq(**more), self.challenge(), exchange)
            answers = [send for send in self.zone.deliver(pdu, self.source) if send.to == self.source]
            answer = h225.decode_ras(answers[-1].data)
            if answer[0] == "registrationConfirm":
                self.session = accept_session(
                    answers[-1].data, answer, request=pdu, exchange=exchange, service_key=SERVICE.public
                )
                self.counter = itertools.count(1)
        self.endpoint_identifier = answer[1].get("endpointIdentifier", self.endpoint_identifier)
        return answer

    def is_authentic(self, send: Send) -> bool:
        """Say whether a datagram of the gatekeeper carries this session's MAC."""
        assert self.session is not None
        return check(send.data, h225.decode_ras(send.data), self.session, Direction.TO_TERMINAL) > 0


def reason(answer: Message) -> str:
    """The name that a refusal gives itself."""
    data: bytes = answer[1]["nonStandardData"]["data"]
    return data.decode().partition("\n")[0]


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def council(count: int = 2, **settings: Any) -> tuple[Zone, list[Peer]]:
    """A zone of ``count`` guardians g0, g1 ... at 192.0.2.10, .11 ..., all registered."""
    zone = Zone([guardian(f"g{number}", key(number + 1)) for number in range(count)], **settings)
    peers = [Peer(zone, f"192.0.2.{10 + number}", f"g{number}", key(number + 1)) for number in range(count)]
    for peer in peers:
        assert peer.register()[0] == "registrationConfirm"
    return zone, peers
