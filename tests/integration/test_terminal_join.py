"""councilctl join as a guardian types it: a process, a real daemon, Ctrl-C."""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import pytest
import typer
from rich.status import Status
from running_daemon import client, make_config, make_council, operator, running, vouching
from typer.testing import CliRunner

from gatekeeperd.cli.join import _Narrator, _trouble
from gatekeeperd.cli.join import join as join_command
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.security.keys import KeyPair, create_key_file
from gatekeeperd.terminal.events import Admitted, Disengaged, Lost, Party, Unreachable


@pytest.fixture(scope="module")
def council(tmp_path_factory):
    return make_council(tmp_path_factory.mktemp("council"))


@asynccontextmanager
async def join(ready, key, directory, *more):
    path = directory / f"{key.key_id.hex()}.key"
    if not path.exists():
        create_key_file(path, key)
    host, port = ready.ras[0]
    command = [sys.executable, "-m", "gatekeeperd.cli.council", "join", "--gatekeeper", f"{host}:{port}"]
    command += ["--service-key-file", str(ready.service_public_key_file), "--key", str(path), *more]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def event(process, name):
    """Read JSON lines until that event."""
    while line := await process.stdout.readline():
        facts = json.loads(line)
        if facts["event"] == name:
            return facts
    raise AssertionError(f"no {name}: {await process.stderr.read()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_stays_until_it_is_told_to_leave(tmp_path, council, number):
    async with (
        running(make_config(tmp_path, council)) as (_, ready),
        client(ready, **operator(ready)) as api,
        join(ready, council.guardian(0), tmp_path, "--call", "council", "--bandwidth", "2000000", "--json") as process,
    ):
        admitted = await event(process, "Admitted")
        assert admitted["bandwidth_bps"] == 2_000_000
        assert (await api.get("/api/admission/sessions")).json()["total"] == 1
        process.send_signal(number)
        assert (await event(process, "Disengaged"))["by"] == "terminal"
        assert (await event(process, "Unregistered"))["by"] == "terminal"
        assert await process.wait() == 0
        assert (await api.get("/api/admission/sessions")).json()["total"] == 0


async def test_it_tells_a_person(tmp_path, council):
    async with running(make_config(tmp_path, council)) as (_, ready), join(ready, council.guardian(1), tmp_path) as process:
        assert b"answers at 127.0.0.1" in await process.stdout.readline()
        assert b"which proved its key" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert b"unregistered (terminal)" in await process.stdout.read()
        assert await process.wait() == 0


async def test_a_refused_call_is_explained(tmp_path, council):
    options = ("--call", "council", "--call-type", "escalate", "--pii")
    async with (
        running(make_config(tmp_path, council)) as (_, ready),
        join(ready, council.guardian(2), tmp_path, *options) as process,
    ):
        said = (await process.stdout.read()).decode()
        assert await process.wait() == 1
    assert "call refused: PII_POLICY_VIOLATION (declared)" in said
    assert "Leave personal data out" in said
    assert said.rstrip().endswith("unregistered (terminal)")


@pytest.mark.parametrize(
    ("terminal_id", "reason"),
    [("if://guardian/stranger", "NOT_REGISTERED"), ("if://guardian/technical", "INVALID_SIGNATURE")],
)
async def test_a_refused_registration_is_explained(tmp_path, council, terminal_id, reason):
    async with (
        running(make_config(tmp_path, council)) as (_, ready),
        join(ready, KeyPair.generate(terminal_id), tmp_path) as process,
    ):
        said = (await process.stdout.read()).decode()
        assert await process.wait() == 1
    assert f"registration refused: {reason}" in said
    assert "councilctl" in said


async def test_being_put_out_is_told(tmp_path, council):
    async with (
        running(make_config(tmp_path, council)) as (_, ready),
        client(ready, **operator(ready)) as api,
        join(ready, council.guardian(3), tmp_path, "--call", "council", "--json") as process,
    ):
        await event(process, "Admitted")
        (session,) = (await api.get("/api/admission/sessions")).json()["sessions"]
        await api.delete(f"/api/admission/session/{session['session_id']}")
        assert (await event(process, "Disengaged"))["by"] == "gatekeeper"
        await event(process, "Unregistered")
        assert await process.wait() == 1


async def test_another_terminal_of_the_same_guardian_is_named(tmp_path, council):
    key = council.guardian(4)
    async with running(make_config(tmp_path, council)) as (_, ready), join(ready, key, tmp_path, "--bind", "127.0.0.1") as first:
        while b"proved its key" not in await first.stdout.readline():
            pass
        async with join(ready, key, tmp_path, "--bind", "127.0.0.2", "--json") as second:
            await event(second, "Registered")
            assert b"unregistered (gatekeeper: another terminal registered as this guardian)" in await first.stdout.read()


async def test_too_many_calls_are_explained_by_their_rule(tmp_path, council):
    config = make_config(tmp_path, council, limits={"calls_per_guardian": 1})
    key = council.guardian(5)
    async with running(config) as (_, ready), client(ready) as api:
        assert (await api.post("/api/admission/request", json=vouching(key))).status_code == 200
        async with join(ready, key, tmp_path, "--call", "council") as process:
            said = (await process.stdout.read()).decode()
    assert "call refused: BANDWIDTH_EXCEEDED (calls_per_guardian 2 of 1)" in said
    assert "let its vouchers expire" in said
    assert "Ask for less" not in said


async def test_an_unknown_destination_is_explained(tmp_path, council):
    async with (
        running(make_config(tmp_path, council)) as (_, ready),
        join(ready, council.guardian(6), tmp_path, "--call", "nobody") as process,
    ):
        said = (await process.stdout.read()).decode()
    assert "no such destination" in said
    assert "Check the destination (--call)" in said
    assert "log says more" not in said


def test_no_gatekeeper_is_explained():
    line = _trouble(Unreachable(tried=(("127.0.0.1", 1719),), unproven=(), retry_in_s=None))
    assert "Is gatekeeperd running, is that its address (--gatekeeper)" in line.plain
    assert "--gatekeeper" not in _trouble(Unreachable(tried=(("127.0.0.1", 1719),), unproven=(), retry_in_s=1.0)).plain


def test_the_status_line_follows_the_state(monkeypatch):
    shown = []
    monkeypatch.setattr(Status, "update", lambda _status, text: shown.append(text))
    narrator = _Narrator(as_json=False)
    address = ("127.0.0.1", 1719)
    narrator.tell(Admitted(call="c", address=address, bandwidth_bps=1, call_model="direct", irr_frequency_s=None))
    narrator.tell(Disengaged(call="c", by=Party.GATEKEEPER, reason="forcedDrop"))
    narrator.tell(Lost(address=address, reason="NO_ANSWER"))
    assert [text.partition(";")[0] for text in shown] == ["in the call", "no longer in the call", "looking for a gatekeeper"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--service-key", "zzz"], "--service-key: is no public key"),
        (["--service-key-file", "KEY"], "--service-key-file: holds a private key"),
        (["--service-key-file", "nosuch.pub"], "--service-key-file: can't be read: No such file"),
        (["--call", ""], "--call: is empty"),
    ],
)
def test_what_can_not_be_used_is_named(tmp_path, arguments, complaint):
    create_key_file(tmp_path / "ann.key", KeyPair.generate("if://guardian/ann"))
    app = typer.Typer()
    app.command()(join_command)
    given = [str(tmp_path / "ann.key") if argument == "KEY" else argument for argument in arguments]
    result = CliRunner().invoke(app, ["--key", str(tmp_path / "ann.key"), *given])
    assert isinstance(result.exception, ConfigurationError)
    assert complaint in str(result.exception)
