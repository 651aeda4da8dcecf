"""The OpenAPI document is an interface: what is committed is what is served. And the commands that use the API."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from running_daemon import Council, client, make_config, make_council, running
from typer.testing import CliRunner, Result

from gatekeeperd.cli import sessions
from gatekeeperd.cli.admit import admit
from gatekeeperd.cli.api_client import ApiClient, Reply
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


async def vouched(commands: Commands, number: int) -> str:
    vouch = ("admit", "--key", commands.keys[0], "--alias", f"room-{number}", "--address", f"127.0.0.{number}")
    return str((await commands.json(*vouch))["session_id"])


async def test_the_digits_that_are_shown_are_enough_to_revoke(commands: Commands) -> None:
    whole = await vouched(commands, 1)
    listed = (await commands.run("sessions", "--token-file", commands.token)).output
    assert whole[:12] in listed
    assert "first digits" in listed
    ended = await commands.run("sessions", "revoke", whole[:6], "--token-file", commands.token)
    assert ended.output == f"{whole}: ended\n"
    for given, complaint in ((whole[:6], "no session starts with"), (whole[:5], "6 digits at least")):
        refused = await commands.run("sessions", "revoke", given, "--token-file", commands.token)
        assert complaint in str(refused.exception)


async def test_an_ambiguous_start_ends_nothing(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [await vouched(commands, number) for number in (1, 2)]
    start = "abcdef"
    answer = {"sessions": [{"session_id": start + digits[6:]} for digits in found], "total": 2}
    asked: list[str] = []

    def listing(_client: ApiClient, method: str, _path: str, **_: object) -> Reply:
        asked.append(method)
        return Reply(200, answer)

    with monkeypatch.context() as patch:
        patch.setattr(ApiClient, "request", listing)
        refused = await commands.run("sessions", "revoke", start, "--token-file", commands.token)
        assert "abcdef is ambiguous" in str(refused.exception)
        answer["total"] = 3
        refused = await commands.run("sessions", "revoke", start + found[0][6:8], "--token-file", commands.token)
        assert "give all 32 digits" in str(refused.exception)
    assert asked == ["GET", "GET"]


async def test_options_before_revoke_count_and_those_behind_it_win(commands: Commands) -> None:
    where = ("--url", commands.ready.http, "--ca", commands.ready.certificate)
    run = partial(asyncio.to_thread, CliRunner().invoke, commands.app)
    first, second = [await vouched(commands, number) for number in (1, 2)]
    before = ["sessions", *where, "--token-file", str(commands.token)]
    assert (await run([*before, "revoke", first])).output == f"{first}: ended\n"
    # The other guardian's key takes the token's place, and may not end it.
    refused = await run([*before, "revoke", second, "--key", str(commands.keys[1])])
    assert "NOT_FOUND" in str(refused.exception)
    wrong = ["sessions", *where, "--url", "https://127.0.0.1:1", "--key", str(commands.keys[1])]
    ended = await run([*wrong, "--json", "revoke", second, *where, "--key", str(commands.keys[0])])
    assert json.loads(ended.output)["session_id"] == second


async def test_a_connection_that_fails_says_what_to_do(commands: Commands, tmp_path: Path) -> None:
    async def complaint(url: str, *more: str) -> str:
        arguments = ["sessions", "--token-file", str(commands.token), "--url", url, *more]
        return str((await asyncio.to_thread(CliRunner().invoke, commands.app, arguments)).exception)

    https = commands.ready.http
    assert "give its certificate with --ca FILE" in await complaint(https)
    assert "is gatekeeperd running there? (--url)" in await complaint("https://127.0.0.1:1")
    assert "https:// alone" in await complaint(https.replace("https", "http"))
    (tmp_path / "other").write_text("no certificate")
    assert "--ca: is no certificate in PEM" in await complaint(https, "--ca", str(tmp_path / "other"))
    assert "--ca: No such file" in await complaint(https, "--ca", str(tmp_path / "absent"))


async def test_what_is_malformed_names_its_option(commands: Commands) -> None:
    refused = await commands.run("admit", "--key", commands.keys[0], "--alias", "room-1", "--address", "roomhost")
    assert refused.exit_code == 1
    assert "endpoint_address (--address)" in refused.output


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
