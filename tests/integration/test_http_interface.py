"""The OpenAPI document is an interface: what is committed is what is served. And the commands that use the API."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from running_daemon import Council, client, make_config, make_council, running
from typer.testing import CliRunner, Result

from gatekeeperd.cli import sessions
from gatekeeperd.cli.admit import admit
from gatekeeperd.cli.daemon import main
from gatekeeperd.daemon import Ready
from gatekeeperd.errors import ApiError, ConfigurationError
from gatekeeperd.security.keys import create_key_file

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "interfaces" / "openapi.yaml"


@pytest.fixture(scope="module")
def council(tmp_path_factory: pytest.TempPathFactory) -> Council:
    return make_council(tmp_path_factory.mktemp("council"))


@pytest.fixture
async def ready(tmp_path: Path, council: Council) -> AsyncIterator[Ready]:
    async with running(make_config(tmp_path, council)) as (_, started):
        yield started


async def test_the_committed_document_is_the_served_one(ready: Ready) -> None:
    async with client(ready) as http:
        served = (await http.get("/openapi.json")).json()
    assert yaml.safe_load(read(COMMITTED)) == served, "run: gatekeeperd openapi > docs/interfaces/openapi.yaml"


def read(path: Path) -> str:
    return path.read_text()


def test_the_command_prints_the_committed_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == COMMITTED.read_text()


def test_the_document_tells_every_status_that_a_gate_has() -> None:
    document = yaml.safe_load(COMMITTED.read_text())
    statuses = set(document["paths"]["/api/admission/request"]["post"]["responses"])
    assert {"200", "400", "401", "403", "422", "500", "503"} <= statuses
    assert "HTTPValidationError" not in document["components"]["schemas"]


class Commands:
    """``councilctl admit`` and ``sessions`` against one daemon, each call in a thread beside the daemon's loop."""

    def __init__(self, ready: Ready, directory: Path, council: Council) -> None:
        self.app = typer.Typer()
        self.app.command("admit")(admit)
        self.app.add_typer(sessions.app)
        self.ready = ready
        self.keys = [directory / f"{number}.key" for number in range(2)]
        for number, path in enumerate(self.keys):
            create_key_file(path, council.guardian(number))
        self.token = directory / "token"
        shutil.copy(Path(ready.state) / "api_token", self.token)

    async def run(self, *arguments: object, trust: bool = True) -> Result:
        where = ["--url", self.ready.http, *(["--ca", self.ready.certificate] if trust else [])]
        return await asyncio.to_thread(CliRunner().invoke, self.app, [*map(str, arguments), *where])

    async def json(self, *arguments: object) -> Any:
        return json.loads((await self.run(*arguments, "--json")).stdout)


@pytest.fixture
def commands(ready: Ready, tmp_path: Path, council: Council) -> Commands:
    return Commands(ready, tmp_path, council)


async def test_vouch_list_and_revoke(commands: Commands) -> None:
    vouch = ("admit", "--key", commands.keys[0], "--alias", "room-1", "--address", "127.0.0.1")
    answer = await commands.json(*vouch)
    assert (answer["status"], answer["admitted"]) == (200, True)
    listed = await commands.run("sessions", "--token-file", commands.token)
    assert listed.exit_code == 0
    assert "1 of 1" in listed.output
    assert (await commands.json("sessions", "--key", commands.keys[0]))["total"] == 1
    assert (await commands.json("sessions", "--key", commands.keys[1]))["total"] == 0
    ended = await commands.run("sessions", "revoke", answer["session_id"], "--key", commands.keys[0])
    assert ended.output == f"{answer['session_id']}: ended\n"
    assert (await commands.json("sessions", "--token-file", commands.token))["total"] == 0
    again = await commands.run("sessions", "revoke", answer["session_id"], "--token-file", commands.token)
    assert isinstance(again.exception, ApiError)


async def test_a_refusal_is_shown_and_exits_1(commands: Commands) -> None:
    vouch = ("admit", "--key", commands.keys[0], "--alias", "room-1", "--address", "127.0.0.1")
    refused = await commands.run(*vouch, "--call-type", "escalate", "--pii")
    assert refused.exit_code == 1
    assert "PII_POLICY_VIOLATION" in refused.output
    assert (await commands.json(*vouch, "--bandwidth-bps", 9_000_000))["reason"] == "BANDWIDTH_EXCEEDED"


async def test_an_untrusted_server_gets_no_credential(commands: Commands) -> None:
    untrusted = await commands.run("sessions", "--token-file", commands.token, trust=False)
    assert isinstance(untrusted.exception, ApiError)
    assert "certificate verify failed" in str(untrusted.exception)
    assert (await commands.run("sessions", "--token-file", commands.token, "--insecure", trust=False)).exit_code == 0
    without = await commands.run("sessions")
    assert isinstance(without.exception, ConfigurationError)
