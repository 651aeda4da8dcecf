"""The whole daemon over real sockets: start, registration, reload, restart, metrics, refusal to start."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from running_daemon import (
    Council,
    Endpoint,
    client,
    make_config,
    make_council,
    operator,
    process,
    running,
    until,
    vouching,
    witness_events,
)

from gatekeeperd.cli.daemon import main
from gatekeeperd.config import Config
from gatekeeperd.core.actions import Send
from gatekeeperd.daemon import Daemon, Ready
from gatekeeperd.errors import ConfigurationError, StoreError
from gatekeeperd.net.ras import DISCOVERY_GROUP, MAX_DATAGRAM, RasSockets
from gatekeeperd.policy.registry import GuardianStatus
from gatekeeperd.policy.registry_edit import set_status


@pytest.fixture
def council(tmp_path: Path) -> Council:
    return make_council(tmp_path)


@pytest.fixture
def config(tmp_path: Path, council: Council) -> Config:
    return make_config(tmp_path, council, gatekeeper={"allow_unsigned": True})


@pytest.fixture
def endpoint() -> Iterator[Callable[[tuple[str, int]], Endpoint]]:
    opened: list[Endpoint] = []

    def connect(gatekeeper: tuple[str, int]) -> Endpoint:
        opened.append(Endpoint(gatekeeper))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


Connect = Callable[[tuple[str, int]], Endpoint]


async def scraped(ready: Ready) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(ready.metrics)).raise_for_status().text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def mode_of(directory: str, name: str) -> int:
    return stat.S_IMODE((Path(directory) / name).stat().st_mode)


def octets_of(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Undo what ``gatekeeperd run`` does to this process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_discovery_registration_and_keep_alive(config: Config, endpoint: Connect) -> None:
    async with running(config) as (_, ready):
        terminal = endpoint(ready.ras[0])
        name, confirm = await asyncio.to_thread(terminal.discover)
        assert (name, confirm["gatekeeperIdentifier"]) == ("gatekeeperConfirm", "council")
        assert confirm["rasAddress"] == ("ipAddress", {"ip": socket.inet_aton("127.0.0.1"), "port": ready.ras[0][1]})
        name, confirm = await asyncio.to_thread(terminal.register, "room-1")
        assert name == "registrationConfirm"
        assert (await asyncio.to_thread(terminal.keep_alive, confirm["endpointIdentifier"]))[0] == "registrationConfirm"
        figures = await scraped(ready)
    assert figures["h323_gatekeeper_registered_endpoints"] == 1
    assert figures['h323_gatekeeper_ras_received_total{type="registrationRequest"}'] == 2
    assert figures['h323_gatekeeper_ras_response_seconds_count{type="registrationRequest"}'] == 2
    assert figures['h323_gatekeeper_ras_response_seconds_bucket{le="+Inf",type="gatekeeperRequest"}'] == 1
    assert figures["h323_gatekeeper_witness_lag_records"] == 0
    assert figures["h323_gatekeeper_commit_seconds_count"] >= 2


async def test_it_serves_ipv6_beside_ipv4_on_one_port(config: Config, endpoint: Connect) -> None:
    config = replace(config, ras=replace(config.ras, bind=("127.0.0.1", "::1")), http=replace(config.http, bind=("::1",)))
    async with running(config) as (_, ready):
        assert [host for host, _ in ready.ras] == ["127.0.0.1", "::1"]
        assert len({port for _, port in ready.ras}) == 1
        assert ready.http.startswith("https://[::1]:")
        terminal = endpoint(ready.ras[1])
        name, confirm = await asyncio.to_thread(terminal.discover)
        assert name == "gatekeeperConfirm"
        assert confirm["rasAddress"][0] == "ip6Address"
        async with client(ready) as http:
            assert (await http.get("/readyz")).status_code == 200


async def test_discovery_by_multicast_is_answered_from_the_unicast_socket(config: Config, endpoint: Connect) -> None:
    async with running(replace(config, ras=replace(config.ras, multicast=True))) as (_, ready):
        assert DISCOVERY_GROUP in ready.multicast
        terminal = endpoint(DISCOVERY_GROUP)
        name, confirm = await asyncio.to_thread(terminal.discover)
        while confirm["rasAddress"][1]["port"] != ready.ras[0][1]:  # another gatekeeper of this machine was faster
            name, confirm = await asyncio.to_thread(terminal.receive)
        assert name == "gatekeeperConfirm"


async def test_hostile_datagrams_are_counted_and_cost_others_nothing(config: Config, endpoint: Connect) -> None:
    async with running(config) as (_, ready):
        attacker, terminal = endpoint(ready.ras[0]), endpoint(ready.ras[0])
        for octets in (b"", b"\x00", os.urandom(400), b"\xff" * MAX_DATAGRAM, bytes(MAX_DATAGRAM + 1), bytes(60_000)):
            attacker.send(octets)
        assert (await asyncio.to_thread(terminal.discover))[0] == "gatekeeperConfirm"
        figures = await scraped(ready)
    assert figures['h323_gatekeeper_datagram_faults_total{reason="oversized"}'] == 2
    assert figures['h323_gatekeeper_ras_dropped_total{reason="malformed"}'] >= 2


async def test_what_can_not_be_sent_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    sockets = RasSockets(("127.0.0.1",), 0, multicast=False, receive_buffer_octets=65_536)
    try:
        for address in (("127.0.0.1", 0), ("127.0.0.1", 70_000), ("::1", 1719)):
            sockets.send(Send(b"x", address))
        assert sockets.faults == {"send_failed": 3}
    finally:
        sockets.close()
    assert not caplog.records


def test_discovery_by_multicast_may_be_impossible(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISCOVERY_GROUP", "DISCOVERY_BROADCAST"):
        monkeypatch.setattr(f"gatekeeperd.net.ras.{name}", ("192.0.2.41", 1718))  # no address of ours, no group
    sockets = RasSockets(("127.0.0.1",), 0, multicast=True, receive_buffer_octets=65_536)
    sockets.close()
    assert sockets.multicast == ()
    assert "no multicast discovery on 127.0.0.1" in caplog.text
    assert "no discovery by broadcast" in caplog.text


async def test_a_restart_keeps_registrations_and_grows_the_epoch(config: Config, endpoint: Connect) -> None:
    async with running(config) as (_, ready):
        port, first = ready.ras[0][1], ready
        terminal = endpoint(ready.ras[0])
        identifier = (await asyncio.to_thread(terminal.register, "room-1"))[1]["endpointIdentifier"]
    assert [record["event"] for record in witness_events(first)][-2:] == ["seal", "checkpoint"]
    async with running(replace(config, ras=replace(config.ras, port=port))) as (_, ready):
        assert ready.epoch == first.epoch + 1
        assert ready.service_public_key == first.service_public_key
        assert (await asyncio.to_thread(terminal.keep_alive, identifier))[0] == "registrationConfirm"


async def test_secrets_are_for_their_owner_alone(config: Config) -> None:
    async with running(config) as (_, ready):
        for name, mode in (
            ("", 0o700),
            ("service.key", 0o600),
            ("node.key", 0o600),
            ("api_token", 0o600),
            ("service.pub", 0o644),
        ):
            assert mode_of(ready.state, name) == mode
        assert octets_of(ready.service_public_key_file).decode() == f"{ready.service_public_key}\n"


async def test_a_reload_takes_a_good_registry_and_keeps_the_last_one_at_a_bad_one(
    config: Config, council: Council, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config) as (daemon, ready), client(ready) as http:
        body = vouching(council.guardian(0))
        assert (await http.post("/api/admission/request", json=body)).status_code == 200
        good = council.registry.read_text()
        council.registry.write_text(good.replace("status: active", "status: retired", 1))
        await daemon.reload()
        assert "guardians[0].status" in caplog.text
        assert f"{council.registry.name}:" in caplog.text
        again = vouching(council.guardian(1), endpoint_alias="room-2")
        assert (await http.post("/api/admission/request", json=again)).status_code == 200

        council.registry.write_text(good)
        set_status(council.registry, council.guardian(0).terminal_id or "", GuardianStatus.SUSPENDED)
        await daemon.reload()
        refused = await http.post("/api/admission/request", json=vouching(council.guardian(0), endpoint_alias="room-3"))
        assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_REGISTERED")
        sessions = (await http.get("/api/admission/sessions", headers=operator(ready))).json()
        assert [session["terminal_id"] for session in sessions["sessions"]] == [council.guardian(1).terminal_id]
        figures = await scraped(ready)
    assert figures['h323_gatekeeper_registry_reloads_total{result="failed"}'] == 1
    assert figures['h323_gatekeeper_registry_reloads_total{result="ok"}'] == 1
    failed = [record for record in witness_events(ready) if record["event"] == "registry.reload_failed"]
    assert failed[0]["payload"]["field"] == "guardians[0].status"


async def test_two_daemons_never_share_a_state(config: Config) -> None:
    async with running(config):
        with pytest.raises(StoreError):
            async with running(config):
                pass


async def test_a_failed_start_leaves_nothing_open(config: Config) -> None:
    async with running(config) as (_, ready):
        taken = replace(config, ras=replace(config.ras, port=ready.ras[0][1]), state_directory=config.state_directory / "other")
        with pytest.raises(ConfigurationError, match=r"ras\.bind: can't bind UDP 127\.0\.0\.1"):
            async with running(taken):
                pass
        taken = replace(taken, ras=config.ras, http=replace(config.http, port=int(ready.http.rpartition(":")[2])))
        with pytest.raises(ConfigurationError, match=r"http\.bind: can't bind TCP"):
            async with running(taken):
                pass


async def test_a_self_signed_certificate_is_kept_and_made_anew_for_another_address(config: Config) -> None:
    config = replace(config, http=replace(config.http, certificate=None, private_key=None))
    async with running(config) as (_, ready), client(ready) as http:
        assert (await http.get("/healthz")).status_code == 200
        first = octets_of(ready.certificate)
        assert mode_of(ready.state, "tls/private_key.pem") == 0o600
    async with running(config) as (_, ready):
        assert octets_of(ready.certificate) == first
    moved = replace(config, http=replace(config.http, bind=("127.0.0.2",)))
    async with running(moved) as (_, ready), client(ready) as http:
        assert octets_of(ready.certificate) != first
        assert (await http.get("/healthz")).status_code == 200


def test_a_process_starts_reloads_and_stops_by_signals(tmp_path: Path, council: Council) -> None:
    state = tmp_path / "state"
    arguments = ["--standalone", "--registry", str(council.registry), "--state", str(state), "--log-format", "json"]
    ports = ["--port", "0", "--http-port", "0", "--metrics-port", "0"]
    with process(*arguments, *ports) as (daemon, ready):
        assert ready["event"] == "ready"
        assert ready["pid"] == daemon.pid
        council.registry.write_text("version: 1\nguardians: none\n")
        daemon.send_signal(signal.SIGHUP)
        assert daemon.stderr is not None
        entry = json.loads(daemon.stderr.readline())
        assert entry["level"] == "error"
        assert "guardian-registry.yaml:2: guardians:" in entry["message"]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        assert daemon.stdout is not None
        assert daemon.stdout.read() == ""
    lines = (state / "witness").rglob("h323_ras_*.jsonl")
    events = [json.loads(line)["event"] for path in lines for line in path.read_text().splitlines()]
    assert events[-4:] == ["registry.reload_failed", "gatekeeper.stopped", "seal", "checkpoint"]


def test_a_process_tells_systemd_when_it_is_ready_alive_and_stopping(
    tmp_path: Path, council: Council, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        config = make_config(tmp_path, council)

        async def scenario() -> list[bytes]:
            async with running(config):
                heard = [await asyncio.to_thread(notified.recv, 100) for _ in range(2)]
            return [*heard, notified.recv(100)]

        assert asyncio.run(scenario()) == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--standalone"], "--registry"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["run", "--standalone", "--registry", "nowhere.yaml", "--state", "state"], "nowhere.yaml"),
        (["run", "--standalone", "--registry", "nowhere.yaml", "--bind", "0.0.0.0"], "name the address itself"),
        (["run", "--standalone", "--registry", "nowhere.yaml", "--port", "1720"], "never RAS"),
        (["check-config", "nowhere.yaml"], "nowhere.yaml: No such file"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


async def test_what_was_decided_before_a_stop_is_answered(config: Config, endpoint: Connect) -> None:
    async with running(config) as (daemon, ready):
        terminal = endpoint(ready.ras[0])
        registering = asyncio.create_task(asyncio.to_thread(terminal.register, "room-1"))
        await until(lambda: daemon._gatekeeper.registration_count == 1)
        await daemon.stop()
    assert (await registering)[0] == "registrationConfirm"


@pytest.mark.parametrize("name", ["state_directory", "witness_directory"])
async def test_a_directory_that_others_may_write_is_refused(config: Config, name: str) -> None:
    directory = getattr(config, name)
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        await Daemon(config).start()


async def test_a_second_daemon_on_the_same_state_changes_nothing_of_the_first(config: Config) -> None:
    async with running(config) as (_, ready):
        before = {path: path.read_bytes() for path in Path(ready.certificate).parent.iterdir()}
        hosts = ("127.0.0.3",)
        other = replace(config, ras=replace(config.ras, bind=hosts), http=replace(config.http, bind=hosts))
        with pytest.raises(StoreError, match="in use by another daemon"):
            await Daemon(other).start()
        assert {path: path.read_bytes() for path in Path(ready.certificate).parent.iterdir()} == before


async def test_the_journal_is_for_its_owner_alone_whatever_it_was(config: Config) -> None:
    async with running(config):
        pass
    (journal,) = config.state_directory.rglob("*.sqlite3")
    journal.chmod(0o644)
    async with running(config):
        assert journal.stat().st_mode & 0o777 == 0o600
