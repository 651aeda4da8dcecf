"""A daemon of the real thing for tests: eight guardians with keys, free ports, a state directory of its own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from gatekeeperd.config import Config, standalone
from gatekeeperd.daemon import Daemon, Ready
from gatekeeperd.net.certificate import CertificateFiles, ensure_self_signed, local_names
from gatekeeperd.net.ras import DISCOVERY_GROUP
from gatekeeperd.policy.registry import Guardian, GuardianStatus
from gatekeeperd.policy.registry_edit import write_registry
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.vouch import sign_vouch
from gatekeeperd.wire import h225

QUOTA = 2_500_000
NAMES = ("technical", "civic", "ethical", "knowledge", "continuity", "memory", "security", "arts")


@dataclass(frozen=True)
class Council:
    """A registry file, the keys of its guardians by terminal_id, and a certificate, which takes long to make."""

    registry: Path
    tls: CertificateFiles
    keys: dict[str, KeyPair]

    def guardian(self, number: int) -> KeyPair:
        return self.keys[f"if://guardian/{NAMES[number]}"]


def make_council(directory: Path) -> Council:
    keys = {name: KeyPair.generate(name) for name in (f"if://guardian/{name}" for name in NAMES)}
    path = directory / "guardian-registry.yaml"
    write_registry(
        path,
        [
            Guardian(
                terminal_id=name,
                public_key=pair.public,
                role="test",
                description="",
                archetype="test",
                bandwidth_quota_bps=QUOTA,
                registered_at=datetime(2026, 1, 1, tzinfo=UTC),
                status=GuardianStatus.ACTIVE,
                veto_power=False,
                specialization=(),
            )
            for name, pair in keys.items()
        ],
    )
    return Council(path, ensure_self_signed(directory / "tls", local_names(("127.0.0.1",))), keys)


def make_config(directory: Path, council: Council, **sections: Any) -> Config:
    """A configuration on free loopback ports; each of ``sections`` is a dict of fields to replace."""
    config = standalone(
        bind=("127.0.0.1",), registry=council.registry, state_directory=directory / "state", port=0, http_port=0, metrics_port=0
    )
    http = replace(config.http, certificate=council.tls.certificate, private_key=council.tls.private_key)
    config = replace(config, ras=replace(config.ras, multicast=False), http=http)
    return replace(config, **{name: replace(getattr(config, name), **fields) for name, fields in sections.items()})


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[Daemon, Ready]]:
    daemon = Daemon(config)
    ready = await daemon.start()
    try:
        yield daemon, ready
    finally:
        await daemon.stop()


def client(ready: Ready, **headers: str) -> httpx.AsyncClient:
    """An HTTPS client that trusts this daemon's certificate and nothing else."""
    trust = ssl.create_default_context(cafile=ready.certificate)
    return httpx.AsyncClient(base_url=ready.http, verify=trust, headers=headers, trust_env=False)


def operator(ready: Ready) -> dict[str, str]:
    return {"Authorization": f"Bearer {(Path(ready.state) / 'api_token').read_text().strip()}"}


def vouching(key: KeyPair, **changed: Any) -> dict[str, Any]:
    """A signed body of POST /api/admission/request."""
    body = {
        "terminal_id": key.terminal_id,
        "call_id": "council",
        "call_type": "ROUTINE",
        "bandwidth_bps": 512_000,
        "has_pii": False,
        "timestamp": int(time.time()),
        "nonce": secrets.token_hex(16),
        "endpoint_alias": "room-1",
        "endpoint_address": "127.0.0.1",
    }
    return sign_vouch(body | changed, key)


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``gatekeeperd run ... --print-json`` in a process of its own, and the line that it prints when ready."""
    command = [sys.executable, "-m", "gatekeeperd.cli.daemon", "run", "--print-json", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as running_process:
        try:
            assert running_process.stdout is not None
            line = running_process.stdout.readline()
            yield running_process, json.loads(line) if line else {}
        finally:
            if running_process.poll() is None:
                running_process.kill()


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Return when ``condition`` holds; the test's own time limit is the bound."""
    async with asyncio.timeout(10):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.005)


def witness_events(ready: Ready) -> list[dict[str, Any]]:
    """Every witness record of a daemon, in the order of its index."""
    lines = [line for path in Path(ready.witness).rglob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda record: record["index"])


class Endpoint:
    """An unsigned terminal on a UDP socket of its own: sends RAS, returns what is answered."""

    def __init__(self, gatekeeper: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in gatekeeper[0] else socket.AF_INET, socket.SOCK_DGRAM)
        multicast = gatekeeper == DISCOVERY_GROUP
        self._socket.bind(("127.0.0.1" if multicast else gatekeeper[0], 0))
        if multicast:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self._socket.settimeout(5)
        self._gatekeeper = gatekeeper
        self._sequence = 0
        self.address = self._socket.getsockname()[:2]

    def close(self) -> None:
        self._socket.close()

    def send(self, octets: bytes) -> None:
        self._socket.sendto(octets, self._gatekeeper)

    def receive(self) -> tuple[str, dict[str, Any]]:
        return h225.decode_ras(self._socket.recv(9000))

    def ask(self, name: str, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Send one request; blocking, so call it in a thread."""
        self._sequence += 1
        self.send(h225.encode_ras((name, {"requestSeqNum": self._sequence} | value)))
        return self.receive()

    def transport_address(self, port: int | None = None) -> tuple[str, dict[str, Any]]:
        host, own = self.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = "ip6Address" if ":" in host else "ipAddress"
        return kind, {"ip": socket.inet_pton(family, host), "port": port or own}

    def discover(self) -> tuple[str, dict[str, Any]]:
        return self.ask(
            "gatekeeperRequest",
            {
                "protocolIdentifier": PROTOCOL,
                "rasAddress": self.transport_address(),
                "endpointType": {"terminal": {}, "mc": False, "undefinedNode": False},
            },
        )

    def register(self, alias: str) -> tuple[str, dict[str, Any]]:
        return self.ask(
            "registrationRequest",
            {
                "protocolIdentifier": PROTOCOL,
                "discoveryComplete": True,
                "callSignalAddress": [self.transport_address(1720)],
                "rasAddress": [self.transport_address()],
                "terminalType": {"terminal": {}, "mc": False, "undefinedNode": False},
                "terminalAlias": [("h323-ID", alias)],
                "endpointVendor": {"vendor": {"t35CountryCode": 181, "t35Extension": 0, "manufacturerCode": 18}},
            },
        )

    def keep_alive(self, identifier: str) -> tuple[str, dict[str, Any]]:
        return self.ask(
            "registrationRequest",
            {
                "protocolIdentifier": PROTOCOL,
                "discoveryComplete": False,
                "callSignalAddress": [self.transport_address(1720)],
                "rasAddress": [self.transport_address()],
                "terminalType": {"mc": False, "undefinedNode": False},
                "endpointVendor": {"vendor": {"t35CountryCode": 181, "t35Extension": 0, "manufacturerCode": 18}},
                "keepAlive": True,
                "endpointIdentifier": identifier,
            },
        )


#: H.225.0 version 6.
PROTOCOL = (0, 0, 8, 2250, 0, 6)
