"""A running daemon as its peers and its operator see it, and endpoints on UDP sockets of their own beside it.

Everything here blocks: a daemon is a process, or a thread with an event loop of its own (``hosted``).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ras_speaker import Message, Speaker
from running_daemon import Council, process

from gatekeeperd.config import load_config
from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.daemon import Daemon, Ready
from gatekeeperd.net import clock
from gatekeeperd.security.keys import KeyPair, parse_public_key
from gatekeeperd.wire import h225

#: Far beyond what any answer takes: who waits this long has found a defect.
PATIENCE_S = 10.0

#: What a gatekeeper says without being asked, or before it answers.
UNASKED = {"infoRequest", "unregistrationRequest", "disengageRequest", "bandwidthRequest", "requestInProgress"}

Tap = Callable[[TransportAddress, TransportAddress, bytes], None]


def write_config(directory: Path, council: Council, **sections: Any) -> Path:
    """Write a gatekeeperd.yaml with free loopback ports; ``sections`` are added to it."""
    values: dict[str, Any] = {
        "node": "test",
        "state_directory": "state",
        "registry": str(council.registry),
        "gatekeeper": {},
        "ras": {"bind": ["127.0.0.1"], "port": 0, "multicast": False},
        "http": {
            "bind": ["127.0.0.1"],
            "port": 0,
            "certificate": str(council.tls.certificate),
            "private_key": str(council.tls.private_key),
            "requests_per_s": 1_000.0,
            "burst": 1_000,
        },
        "metrics": {"bind": ["127.0.0.1"], "port": 0},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section if isinstance(section, dict) else section
    path = directory / "gatekeeperd.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def eventually(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


class Zone:
    """One running daemon: its sockets, its HTTPS API, its metrics, its witness log. ``tap`` sees every datagram of its peers."""

    def __init__(self, ready: Mapping[str, Any], tap: Tap | None = None) -> None:
        self.ready = ready
        self.tap = tap
        self.ras: list[TransportAddress] = [(host, port) for host, port in ready["ras"]]
        self.service_key = parse_public_key(ready["service_public_key"])
        self._peers: list[Peer] = []
        self._log: dict[Path, list[dict[str, Any]]] = {}
        self._read: dict[Path, int] = {}
        self._hosts = (f"127.7.{number // 250}.{number % 250 + 1}" for number in itertools.count())
        token = (Path(ready["state"]) / "api_token").read_text().strip()
        self.http = httpx.Client(
            base_url=ready["http"],
            verify=ssl.create_default_context(cafile=ready["certificate"]),
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()
        for peer in self._peers:
            peer.socket.close()

    def peer(self, name: str, key: KeyPair | None = None, *, host: str | None = None, port: int = 0) -> Peer:
        """Open an endpoint at ``host``, or at a loopback address that nobody used yet: rate limits are by address."""
        peer = Peer(self, host or next(self._hosts), name, key, port)
        self._peers.append(peer)
        return peer

    def guardian(self, key: KeyPair, **where: Any) -> Peer:
        """Open an endpoint for the guardian of that key."""
        assert key.terminal_id is not None
        return self.peer(key.terminal_id.rpartition("/")[2], key, **where)

    def settle(self) -> None:
        """Return when all that was sent so far is dealt with, its answers and witness records included.

        Commits are answered in order, and a stranger's LRQ, which is always refused, waits for those before it.
        """
        stranger = Peer(self, next(self._hosts), "stranger", None, 0)
        try:
            assert stranger.ask(stranger.lrq(("h323-ID", "anybody")))[0] == "locationReject"
        finally:
            stranger.socket.close()

    def metrics(self) -> dict[str, float]:
        """Scrape: name with labels, to value. The common prefix of the names is left out."""
        text = httpx.get(self.ready["metrics"], trust_env=False).raise_for_status().text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("h323_gatekeeper_"): float(value) for name, _, value in lines}

    def sessions(self, terminal_id: str | None = None) -> list[dict[str, Any]]:
        """List admissions as the API shows them, without their age."""
        views = self.http.get("/api/admission/sessions").raise_for_status().json()["sessions"]
        return [view | {"started_s": 0} for view in views if terminal_id in {None, view["terminal_id"]}]

    def records(self, event: str | None = None, *, after: int = 0) -> list[dict[str, Any]]:
        """Read the witness log: records by index, those of ``event`` where one is named."""
        for path in Path(self.ready["witness"]).rglob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, _, _ = file.read().rpartition(b"\n")  # a line may be on its way
                self._log.setdefault(path, []).extend(map(json.loads, whole.splitlines()))
                self._read[path] = self._read.get(path, 0) + len(whole) + bool(whole)
        found = sorted(itertools.chain(*self._log.values()), key=lambda record: int(record["index"]))
        return [record for record in found if record["index"] > after and event in {None, record["event"]}]

    def last_index(self) -> int:
        return int(self.records()[-1]["index"])


class Peer(Speaker):
    """An endpoint on a UDP socket. ``heard`` collects what the gatekeeper says unasked while an answer is waited for."""

    def __init__(self, zone: Zone, host: str, name: str, key: KeyPair | None, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        super().__init__(self.socket.getsockname()[:2], name, key, zone.service_key)
        self.gatekeeper = next(address for address in zone.ras if (":" in address[0]) == (":" in host))
        self.tap = zone.tap
        self.heard: list[tuple[Message, bytes]] = []

    def say(self, pdu: bytes, *, to: TransportAddress | None = None) -> None:
        to = to or self.gatekeeper
        if self.tap is not None:
            self.tap(self.source, to, pdu)
        self.socket.sendto(pdu, to)

    def hear(self, patience_s: float = PATIENCE_S) -> bytes:
        """Return the next datagram; raises TimeoutError (or BlockingIOError, with 0 s of patience) where there is none."""
        self.socket.settimeout(patience_s)
        data, source = self.socket.recvfrom(65_535)
        if self.tap is not None:
            self.tap(source[:2], self.source, data)
        return data

    def answer_to(self, pdu: bytes) -> bytes:
        """Wait for the answer to a request that was sent."""
        sequence = h225.decode_ras(pdu)[1]["requestSeqNum"]
        while True:
            data = self.hear()
            name, value = message = h225.decode_ras(data)
            if name not in UNASKED and value["requestSeqNum"] == sequence:
                return data
            self.heard.append((message, data))

    def exchange(self, pdu: bytes) -> bytes:
        self.say(pdu)
        return self.answer_to(pdu)

    def arrived(self) -> list[bytes]:
        """Return the datagrams that have arrived and that nobody waited for, without waiting for more."""
        found = []
        while True:
            try:
                found.append(self.hear(0))
            except BlockingIOError:
                return found

    def rest(self) -> list[Message]:
        """Return what has arrived and nobody waited for, decoded."""
        return [h225.decode_ras(data) for data in self.arrived()]

    def expect(self, name: str) -> tuple[Message, bytes]:
        """Return the oldest message of that name that the gatekeeper said unasked, waiting for it where it is still to come."""
        while True:
            for index, (message, _) in enumerate(self.heard):
                if message[0] == name:
                    return self.heard.pop(index)
            data = self.hear()
            self.heard.append((h225.decode_ras(data), data))

    def confirm(self, request: str, answer: str) -> Message:
        """Wait for a request of the gatekeeper's, check its MAC, answer it and return it."""
        message, data = self.expect(request)
        assert self.is_authentic(data)
        self.say(self.protected((answer, {"requestSeqNum": message[1]["requestSeqNum"]})))
        return message


@contextmanager
def daemon_process(config: Path, tap: Tap | None = None) -> Iterator[tuple[Any, Zone]]:
    """Run ``gatekeeperd run --config`` in a process of its own."""
    with process("--config", str(config)) as (running, ready):
        assert ready, running.stderr.read() if running.stderr else ""
        zone = Zone(ready, tap)
        try:
            yield running, zone
        finally:
            zone.close()


class HostedZone(Zone):
    """A daemon in a thread of this process: a test can shift its clock."""

    def __init__(self, daemon: Daemon, loop: asyncio.AbstractEventLoop, ready: Ready, tap: Tap | None) -> None:
        super().__init__(asdict(ready), tap)
        self._daemon = daemon
        self._loop = loop
        self._shift_s = 0.0

    def let_pass(self, seconds: float) -> None:
        """Shift the daemon's clock and have it do what has become due."""
        self._shift_s += seconds
        self._loop.call_soon_threadsafe(self._daemon._engine._fire)

    def clock(self, identifier: int) -> float:
        return time.clock_gettime(identifier) + self._shift_s


@contextmanager
def hosted(config: Path, tap: Tap | None = None) -> Iterator[HostedZone]:
    """Run the daemon in a thread of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="daemon")
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)

    try:
        daemon = Daemon(load_config(config))
        zone = HostedZone(daemon, loop, run(daemon.start()), tap)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(clock, "_clock_gettime", zone.clock)
                yield zone
        finally:
            zone.close()
            run(daemon.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def standing_disk() -> Iterator[None]:
    """Let no write of this process's witness logs become durable meanwhile, as on a disk that stands still."""
    goes_on = threading.Event()
    sync = os.fdatasync

    def wait(descriptor: int) -> None:
        assert goes_on.wait(PATIENCE_S)
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", wait)
        try:
            yield
        finally:
            goes_on.set()
