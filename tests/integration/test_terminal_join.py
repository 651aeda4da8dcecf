"""councilctl join as a guardian types it: a process, a real daemon, Ctrl-C."""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import pytest
from running_daemon import client, make_config, make_council, operator, running

from gatekeeperd.security.keys import KeyPair, create_key_file


@pytest.fixture(scope="module")
def council(tmp_path_factory):
    return make_council(tmp_path_factory.mktemp("council"))


@asynccontextmanager
async def join(ready, key, directory, *more):
    path = directory / f"{key.key_id.hex()}.key"
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
