"""A gatekeeper core without sockets, and hand-made peers: tests say exactly which octets arrive from where and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from ras_speaker import Message, Speaker

from gatekeeperd.core.actions import Action, Commit, Record, Send, TransportAddress
from gatekeeperd.core.gatekeeper import Gatekeeper
from gatekeeperd.core.settings import Settings
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.wire import h225

WALL = 1_800_000_000.0
RAS = ("192.0.2.1", 1719)
SERVICE = KeyPair.from_seed(b"s" * 32)


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


class Peer(Speaker):
    """An endpoint beside that gatekeeper."""

    def __init__(self, zone: Zone, host: str, name: str, key: KeyPair | None = None, *, port: int = 5000) -> None:
        super().__init__((host, port), name, key, SERVICE.public)
        self.zone = zone

    def exchange(self, pdu: bytes) -> bytes:
        (answer,) = (send.data for send in self.zone.deliver(pdu, self.source) if send.to == self.source)
        return answer

    def send(self, pdu: bytes, *, source: TransportAddress | None = None) -> list[Message]:
        """Deliver and return what came back to that source, decoded."""
        source = source or self.source
        answers = [send for send in self.zone.deliver(pdu, source) if send.to == source]
        return [h225.decode_ras(send.data) for send in answers]


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def council(count: int = 2, **settings: Any) -> tuple[Zone, list[Peer]]:
    """A zone of ``count`` guardians g0, g1 ... at 192.0.2.10, .11 ..., all registered."""
    zone = Zone([guardian(f"g{number}", key(number + 1)) for number in range(count)], **settings)
    peers = [Peer(zone, f"192.0.2.{10 + number}", f"g{number}", key(number + 1)) for number in range(count)]
    for peer in peers:
        assert peer.register()[0] == "registrationConfirm"
    return zone, peers
