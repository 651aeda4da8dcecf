"""A small world for terminal tests: real gatekeeper cores and real endpoints, a network that can be bad, a moved clock."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from gatekeeperd.core.actions import Commit, Send
from gatekeeperd.core.gatekeeper import Gatekeeper
from gatekeeperd.core.settings import Settings
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.terminal.endpoint import Endpoint
from gatekeeperd.terminal.events import Event
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.wire.h225 import decode_ras

START = 1_000.0
MEGABIT = 1_000_000


def guardian(name: str, key: KeyPair, *, quota_bps: int = 2_500_000) -> Guardian:
    return Guardian(
        terminal_id=f"if://guardian/{name}",
        public_key=key.public,
        role="tester",
        description="",
        archetype="test",
        bandwidth_quota_bps=quota_bps,
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
        status=GuardianStatus.ACTIVE,
        veto_power=False,
        specialization=(),
    )


@dataclass
class Host:
    """A gatekeeper on the network; ``stored`` outlives it as the ledger does."""

    settings: Settings
    service_key: KeyPair
    registry: Registry
    stored: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    epoch: int = 1
    core: Gatekeeper | None = None
    #: How long a commit takes to become durable.
    commit_s: float = 0.0


class World:
    """``loss`` and ``duplicate`` are probabilities, ``jitter`` seconds: with a long one datagrams overtake each other."""

    def __init__(self, seed: int = 0, *, loss: float = 0.0, duplicate: float = 0.0, jitter: float = 0.0) -> None:
        self.random = Random(seed)
        self.now = START
        self.loss, self.duplicate, self.jitter = loss, duplicate, jitter
        self.hosts: dict[tuple[str, int], Host] = {}
        self.terminals: dict[tuple[str, int], Endpoint] = {}
        self.events: dict[tuple[str, int], list[Event]] = defaultdict(list)
        #: Everything that was sent: time, source, destination, octets.
        self.sent: list[tuple[float, tuple[str, int], tuple[str, int], bytes]] = []
        #: What never arrives: a predicate of source, destination, octets.
        self.lost = lambda _source, _destination, _data: False
        self._commits: list[tuple[float, int, Host, Commit]] = []
        self._air: list[tuple[float, int, tuple[str, int], tuple[str, int], bytes]] = []

    def gatekeeper(self, address: tuple[str, int], guardians: list[Guardian], service_key: KeyPair, **settings) -> Host:
        settings = {"gatekeeper_identifier": "council", **settings}
        host = Host(
            Settings(ras_addresses=(address,), call_signal_addresses=((address[0], 1720),), **settings),
            service_key,
            Registry(tuple(guardians), "00"),
        )
        self.hosts[address] = host
        self.boot(host)
        return host

    def boot(self, host: Host) -> None:
        """Start (again) from what is stored, as after ``kill -9``."""
        host.core = Gatekeeper(
            host.settings,
            host.registry,
            service_key=host.service_key,
            epoch=host.epoch,
            stored=host.stored,
            now=self.now,
            wall=lambda now: now + 1.7e9,
            randbytes=self.random.randbytes,
        )
        host.epoch += 1

    def terminal(
        self, name: str, key: KeyPair, gatekeepers: list[tuple[str, int]], service_keys: list[bytes], **more
    ) -> Endpoint:
        address = (f"192.0.2.{10 + len(self.terminals)}", 20_000)
        settings = EndpointSettings(
            terminal_id=f"if://guardian/{name}",
            key=key,
            service_keys=tuple(service_keys),
            gatekeepers=tuple(gatekeepers),
            ras_address=address,
            call_signal_address=(address[0], 1720),
            **more,
        )
        endpoint = Endpoint(settings, random=self.random.random, randbytes=self.random.randbytes)
        self.terminals[address] = endpoint
        return endpoint

    def events_of(self, endpoint: Endpoint, *kinds: type) -> list[Event]:
        found = self.events[endpoint.settings.ras_address]
        return [event for event in found if isinstance(event, kinds)] if kinds else found

    def kill(self, host: Host) -> None:
        """``kill -9``: what was not durable is gone."""
        host.core = None
        self._commits = [each for each in self._commits if each[2] is not host]

    def names_sent(self, source: tuple[str, int]) -> list[str]:
        """The messages that ``source`` sent, by their choice in RasMessage."""
        return [decode_ras(data)[0] for _, sender, _, data in self.sent if sender == source]

    def inject(self, data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        """Put a datagram on the wire that nobody of ours sent. It arrives."""
        heapq.heappush(self._air, (self.now, len(self.sent) - 1_000_000, source, destination, data))

    def run(self, until=None, limit_s: float = 60.0) -> bool:
        """Let time pass until ``until()`` holds; ``False`` when it did not within ``limit_s``."""
        end = self.now + limit_s
        self._flush()
        while until is None or not until():
            due = self._next()
            if due is None or due > end:
                self.now = end
                return until is None
            self.now = max(self.now, due)
            self._step()
            self._flush()
        return True

    def _next(self) -> float | None:
        times = [queue[0][0] for queue in (self._air, self._commits) if queue]
        times += [timer for each in self.terminals.values() if (timer := each.get_timer()) is not None]
        times += [timer for each in self.hosts.values() if each.core and (timer := each.core.get_timer()) is not None]
        return min(times, default=None)

    def _step(self) -> None:
        self._make_durable()
        while self._air and self._air[0][0] <= self.now:
            _, _, source, destination, data = heapq.heappop(self._air)
            host = self.hosts.get(destination)
            if host is not None and host.core is not None:
                self._carry_out(host, host.core.receive_datagram(data, source, self.now), destination)
            elif destination in self.terminals:
                self.terminals[destination].receive_datagram(data, source, self.now)
        for endpoint in self.terminals.values():
            timer = endpoint.get_timer()
            if timer is not None and timer <= self.now:
                endpoint.handle_timer(self.now)
                endpoint_next = endpoint.get_timer()
                assert endpoint_next is None or endpoint_next > self.now, "a timer that was handled is due again at once"
        for address, host in self.hosts.items():
            if host.core is not None:
                self._carry_out(host, host.core.handle_timer(self.now), address)

    def _carry_out(self, host: Host, actions: list, address: tuple[str, int]) -> None:
        for action in actions:
            if isinstance(action, Commit):
                heapq.heappush(self._commits, (self.now + host.commit_s, action.ticket, host, action))
            else:
                self._send(action, address)
        self._make_durable()

    def _make_durable(self) -> None:
        while self._commits and self._commits[0][0] <= self.now:
            _, _, host, commit = heapq.heappop(self._commits)
            for change in commit.changes:
                if change.value is None:
                    host.stored[change.kind].pop(change.key, None)
                else:
                    host.stored[change.kind][change.key] = change.value
            if host.core is not None:
                host.core.committed(commit.ticket, self.now)
                for send in commit.then:
                    self._send(send, host.settings.ras_addresses[0])

    def _flush(self) -> None:
        for address, endpoint in self.terminals.items():
            for send in endpoint.datagrams_to_send(self.now):
                self._send(send, address)
            while (event := endpoint.next_event()) is not None:
                self.events[address].append(event)

    def _send(self, send: Send, source: tuple[str, int]) -> None:
        self.sent.append((self.now, source, send.to, send.data))
        lost = self.lost(source, send.to, send.data) or self.random.random() < self.loss
        copies = 0 if lost else 1 + (self.random.random() < self.duplicate)
        for copy in range(copies):
            arrival = self.now + 0.001 + self.random.random() * self.jitter
            heapq.heappush(self._air, (arrival, 2 * len(self.sent) + copy, source, send.to, send.data))
