"""Terminals on real sockets against the real daemon: the good case, kill -9, an operator's word, an alternate."""

import asyncio
import signal
import socket
from dataclasses import replace

import pytest
from running_daemon import client, make_config, make_council, operator, process, running, until

from gatekeeperd.config import AlternateSection
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.credential import CallType
from gatekeeperd.security.keys import KeyPair, parse_public_key
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.events import (
    Admitted,
    BandwidthChanged,
    Disengaged,
    KeptAlive,
    Lost,
    Party,
    Refused,
    Registered,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.settings import DISCOVERY_GROUP, EndpointSettings, Retry
from gatekeeperd.terminal.states import State
from gatekeeperd.terminal.udp import Terminal

CALL = CallRequest(destination="council", bandwidth_bps=2_000_000)
#: Patience of a tenth of the Recommendation's, so that what is lost here is soon missed.
BRISK = dict.fromkeys(
    (
        "gatekeeperRequest",
        "registrationRequest",
        "unregistrationRequest",
        "admissionRequest",
        "bandwidthRequest",
        "disengageRequest",
        "infoRequestResponse",
    ),
    Retry(0.3, 2),
)


@pytest.fixture(scope="module")
def council(tmp_path_factory):
    return make_council(tmp_path_factory.mktemp("council"))


def settings(key, gatekeeper, service_key, host="127.0.0.31", **more):
    return EndpointSettings(
        **{
            "terminal_id": key.terminal_id,
            "key": key,
            "service_keys": (parse_public_key(service_key),),
            "gatekeepers": (tuple(gatekeeper),),
            "ras_address": (host, 0),
            "call_signal_address": (host, 1720),
        }
        | more
    )


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.1", "127.0.0.31"), ("127.0.0.1", "0.0.0.0"), ("::1", "::1"), ("::1", "::")])
async def test_a_whole_visit(tmp_path, council, bind, host):
    async with running(make_config(tmp_path, council, ras={"bind": (bind,)})) as (_, ready):
        events = []
        key = council.guardian(0)
        terminal = await Terminal.open(settings(key, ready.ras[0], ready.service_public_key, host), on_event=events.append)
        try:
            registration = await terminal.discover_and_register()
            assert isinstance(registration, Registered)
            assert registration.address == tuple(ready.ras[0])
            admission = await terminal.admit(CALL)
            assert isinstance(admission, Admitted)
            async with client(ready, **operator(ready)) as api:
                sessions = (await api.get("/api/admission/sessions")).json()["sessions"]
            assert [(each["terminal_id"], each["bandwidth_bps"]) for each in sessions] == [(key.terminal_id, 2_000_000)]
            assert isinstance(await terminal.keep_alive(), KeptAlive)
            changed = await terminal.change_bandwidth(admission.call, 1_000_000)
            assert changed == BandwidthChanged(call=admission.call, bandwidth_bps=1_000_000, by=Party.TERMINAL)
            refused = await terminal.admit(replace(CALL, call_type=CallType.ESCALATE, has_pii=True))
            assert isinstance(refused, Refused)
            assert refused.reason == "PII_POLICY_VIOLATION"
            ended = await terminal.disengage(admission.call)
            assert ended == Disengaged(call=admission.call, by=Party.TERMINAL, reason="normalDrop")
            assert await terminal.unregister() == Unregistered(by=Party.TERMINAL, reason="")
            assert not terminal.endpoint.ignored
            assert [event for event in events if event in (registration, admission, refused, ended)]
        finally:
            terminal.close()


async def test_the_gatekeeper_is_found_by_multicast(tmp_path, council):
    async with running(make_config(tmp_path, council, ras={"multicast": True})) as (_, ready):
        one = settings(council.guardian(0), DISCOVERY_GROUP, ready.service_public_key, "127.0.0.1")
        terminal = await Terminal.open(one)
        try:
            registration = await terminal.discover_and_register()
            assert isinstance(registration, Registered)
            assert registration.address == tuple(ready.ras[0])
        finally:
            terminal.close()


async def test_kill_9_costs_nothing(tmp_path, council):
    """The daemon dies without a word and starts again on what it had written: same registration, same call."""
    port = free_port()
    arguments = ["--standalone", "--registry", str(council.registry), "--state", str(tmp_path / "state")]
    arguments += ["--port", str(port), "--http-port", "0", "--metrics-port", "0"]
    events = []
    with process(*arguments) as (daemon, ready):
        service_key = ready["service_public_key"]
        one = settings(council.guardian(0), ("127.0.0.1", port), service_key, retry=dict.fromkeys(BRISK, Retry(0.3, 100)))
        terminal = await Terminal.open(one, on_event=events.append)
        assert isinstance(await terminal.discover_and_register(), Registered)
        admission = await terminal.admit(CALL)
        assert isinstance(admission, Admitted)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    # Asked while nobody is there, answered when somebody is.
    patient = asyncio.ensure_future(terminal.keep_alive())
    try:
        with process(*arguments) as (daemon, ready):
            assert ready["service_public_key"] == service_key
            assert ready["epoch"] == 2
            async with asyncio.timeout(20):
                assert isinstance(await patient, KeptAlive)
                second = await terminal.admit(replace(CALL, bandwidth_bps=200_000))
                assert isinstance(second, Admitted)
                assert set(terminal.endpoint.admitted) == {admission.call, second.call}
                assert isinstance(await terminal.disengage(admission.call), Disengaged)
                assert isinstance(await terminal.unregister(), Unregistered)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(10) == 0
    finally:
        terminal.close()
    assert len([event for event in events if isinstance(event, Registered)]) == 1
    assert not [event for event in events if isinstance(event, Lost)]


async def test_an_operator_ends_a_call(tmp_path, council):
    async with running(make_config(tmp_path, council)) as (_, ready):
        events = []
        terminal = await Terminal.open(
            settings(council.guardian(1), ready.ras[0], ready.service_public_key), on_event=events.append
        )
        try:
            assert isinstance(await terminal.discover_and_register(), Registered)
            admission = await terminal.admit(CALL)
            async with client(ready, **operator(ready)) as api:
                (session,) = (await api.get("/api/admission/sessions")).json()["sessions"]
                assert (await api.delete(f"/api/admission/session/{session['session_id']}")).status_code == 200
            ended = Disengaged(call=admission.call, by=Party.GATEKEEPER, reason="forcedDrop")
            await until(lambda: ended in events)
            assert terminal.endpoint.state is State.REGISTERED
        finally:
            terminal.close()


async def test_the_alternate_takes_over(tmp_path, council):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with running(make_config(tmp_path / "two", council, gatekeeper={"identifier": "second"})) as (_, second):
        host, port = second.ras[0]
        alternate = AlternateSection(host=host, port=port, identifier="second")
        config = replace(make_config(tmp_path / "one", council), alternates=(alternate,))
        events = []
        async with running(config) as (_, first):
            one = settings(
                council.guardian(2),
                first.ras[0],
                first.service_public_key,
                retry=BRISK,
                service_keys=tuple(parse_public_key(ready.service_public_key) for ready in (first, second)),
            )
            terminal = await Terminal.open(one, on_event=events.append)
            assert isinstance(await terminal.discover_and_register(), Registered)
        try:
            async with asyncio.timeout(10):
                assert isinstance(await terminal.keep_alive(), Lost)
            await until(lambda: len([event for event in events if isinstance(event, Registered)]) == 2)
            assert terminal.endpoint.state is State.REGISTERED
            assert [event.address for event in events if isinstance(event, Registered)][-1] == tuple(second.ras[0])
            assert isinstance(await terminal.admit(CALL), Admitted)
        finally:
            terminal.close()


async def test_the_wrong_service_key_is_found_out(tmp_path, council):
    async with running(make_config(tmp_path, council)) as (_, ready):
        wrong = settings(council.guardian(3), ready.ras[0], ready.service_public_key, retry=BRISK)
        wrong = replace(wrong, service_keys=(KeyPair.generate().public,))
        terminal = await Terminal.open(wrong)
        try:
            answer = await terminal.discover_and_register()
            assert isinstance(answer, Unreachable)
            assert answer.unproven == (tuple(ready.ras[0]),)
        finally:
            terminal.close()


async def test_strangers_are_not_listened_to(tmp_path, council):
    async with running(make_config(tmp_path, council)) as (_, ready):
        terminal = await Terminal.open(settings(council.guardian(4), ready.ras[0], ready.service_public_key))
        try:
            assert isinstance(await terminal.discover_and_register(), Registered)
            own = terminal.endpoint.settings.ras_address
            heard = []
            spy = await Terminal.open(
                settings(council.guardian(5), ready.ras[0], ready.service_public_key), tap=lambda *seen: heard.append(seen)
            )
            await spy.discover_and_register()
            spy.close()
            said = [data for _, _, data in heard]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for data in (*said, b"", b"\x00", b"\xff" * 1500):
                    sock.sendto(data, own)
            await until(lambda: terminal.endpoint.ignored.total() == len(said) + 3)
            assert isinstance(await terminal.keep_alive(), KeptAlive)
        finally:
            terminal.close()


async def test_who_waits_learns_that_the_terminal_was_closed(council):
    lonely = settings(council.guardian(6), ("127.0.0.1", free_port()), "ed25519:" + KeyPair.generate().public.hex())
    terminal = await Terminal.open(lonely)
    waiting = asyncio.ensure_future(terminal.discover_and_register())
    await asyncio.sleep(0)
    terminal.close()
    with pytest.raises(TerminalError, match="closed"):
        await waiting


async def test_an_address_in_use_is_said(council):
    one = settings(council.guardian(6), ("127.0.0.1", 1719), "ed25519:" + KeyPair.generate().public.hex())
    terminal = await Terminal.open(one)
    try:
        taken = replace(one, ras_address=terminal.endpoint.settings.ras_address)
        with pytest.raises(TerminalError, match=r"can't use 127\.0\.0\.31 port"):
            await Terminal.open(taken)
    finally:
        terminal.close()
