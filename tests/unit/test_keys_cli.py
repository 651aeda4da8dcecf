"""``councilctl keys``: what it prints, and that it never prints or loses a private key."""

import json
import stat

import pytest
from security_samples import TERMINAL_ID
from typer.testing import CliRunner

from gatekeeperd.cli.keys import app
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.security.keys import format_public_key, load_key_file

RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "guardian.key"


def test_new_makes_a_key_and_prints_what_the_registry_needs(path):
    result = run("new", "--out", path, "--terminal-id", TERMINAL_ID)
    pair = load_key_file(path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"file: {path}",
        f"terminal_id: {TERMINAL_ID}",
        f"public_key: {format_public_key(pair.public)}",
        f"key_id: {pair.key_id.hex()}",
    ]
    assert pair.terminal_id == TERMINAL_ID
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "terminal_id", ["bob", "if://guardian/", "if://guardian/Bob", "if://guardian/bob\n", "https://guardian/bob"]
)
def test_new_refuses_a_terminal_id_that_no_registry_takes(path, terminal_id):
    with pytest.raises(ConfigurationError, match="if://guardian/NAME") as refused:
        run("new", "--out", path, "--terminal-id", terminal_id)
    assert refused.value.field == "--terminal-id"
    assert not path.exists()


def test_new_never_overwrites(path):
    run("new", "--out", path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="never overwritten"):
        run("new", "--out", path)
    assert path.read_bytes() == before


def test_show_prints_the_same_as_new_in_either_form(path):
    made = json.loads(run("new", "--out", path, "--json").stdout)
    assert made == json.loads(run("show", path, "--json").stdout)
    assert made["terminal_id"] is None
    assert run("show", path).stdout.splitlines() == [f"{name}: {value}" for name, value in made.items() if value is not None]


def test_nothing_of_the_private_key_is_printed(path):
    output = run("new", "--out", path).stdout + run("show", path).stdout + run("show", path, "--json").stdout
    secret = path.read_text().splitlines()[1]
    assert secret not in output
    assert "PRIVATE" not in output


def test_show_refuses_a_file_that_others_may_read(path):
    run("new", "--out", path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="mode 0644"):
        run("show", path)


@pytest.mark.parametrize("arguments", [["new"], ["show"], ["rotate"]])
def test_wrong_usage_has_exit_code_2(arguments):
    assert run(*arguments).exit_code == 2
