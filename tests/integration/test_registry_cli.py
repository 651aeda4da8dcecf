"""``councilctl registry`` on real files: what it prints, what it changes, and its exit codes."""

import json
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from typer.testing import CliRunner

from gatekeeperd.cli.registry import app
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.registry import GuardianStatus, load_registry
from gatekeeperd.security.keys import KeyPair, create_key_file, format_public_key

EXAMPLE = Path(__file__).parents[2] / "examples" / "guardian-registry.yaml"
KEY = "ed25519:" + bytes(SigningKey(b"\x07" * 32).verify_key).hex()
NEW = ["--terminal-id", "if://guardian/new", "--public-key", KEY, "--role", "tester", "--archetype", "sceptic"]


@pytest.fixture
def path(tmp_path):
    copy = tmp_path / "registry.yaml"
    copy.write_text(EXAMPLE.read_text())
    return copy


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "140", "TERM": "dumb"})


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_check_counts_a_good_file(path):
    result = run("check", path)
    assert result.exit_code == 0
    assert "16 guardians (16 active, 0 suspended, 0 revoked)" in result.stdout
    assert load_registry(path).digest in result.stdout
    answer = run_json("check", path)
    assert (answer["valid"], answer["guardians"], answer["active"]) == (True, 16, 16)


def test_check_names_file_line_and_field_in_one_line(path):
    text = path.read_text().replace("bandwidth_quota_bps: 2000000", "bandwidth_quota_bps: fast", 1)
    path.write_text(text)
    line = text[: text.index("fast")].count("\n") + 1
    result = run("check", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"{path}:{line}: guardians[1].bandwidth_quota_bps: ")
    assert result.stderr.count("\n") == 1
    result = run("check", path, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["valid"], answer["line"], answer["field"]) == (False, line, "guardians[1].bandwidth_quota_bps")


def test_check_of_no_file_is_a_finding(tmp_path):
    result = run("check", tmp_path / "absent.yaml")
    assert (result.exit_code, "can't be read" in result.stderr) == (1, True)


def test_list_shows_every_guardian(path):
    result = run("list", path)
    assert result.exit_code == 0
    for guardian in load_registry(path):
        assert guardian.terminal_id in result.stdout
    assert "Cont-01" in result.stdout
    listed = run_json("list", path)
    assert [entry["terminal_id"] for entry in listed["guardians"]] == [guardian.terminal_id for guardian in load_registry(path)]
    assert listed["guardians"][0]["registered_at"] == "2026-01-01T00:00:00+00:00"


def test_text_of_the_file_is_not_read_as_markup(path):
    path.write_text(path.read_text().replace("archetype: citizen", "archetype: '[red]x[/red]'"))
    assert "[red]x[/red]" in run("list", path).stdout


def test_a_guardian_is_added_with_all_its_facts(path):
    more = [
        "--description",
        "Tries it.",
        "--bandwidth-quota-bps",
        1_500_000,
        "--specialization",
        "a",
        "--specialization",
        "b",
        "--alias",
        "N-99",
    ]
    answer = run_json("add", path, *NEW, *more, "--veto")
    guardian = load_registry(path).get("if://guardian/new")
    assert answer["guardian"]["public_key"] == KEY
    assert (guardian.role, guardian.archetype, guardian.description) == ("tester", "sceptic", "Tries it.")
    assert (guardian.bandwidth_quota_bps, guardian.veto_power) == (1_500_000, True)
    assert (guardian.specialization, guardian.aliases) == (("a", "b"), ("N-99",))
    assert guardian.registered_at.utcoffset() is not None
    assert "if://guardian/new is active" in run("reinstate", path, "if://guardian/new").stdout


def test_the_life_of_a_guardian(path):
    for command, status in (("suspend", "suspended"), ("reinstate", "active"), ("suspend", "suspended"), ("revoke", "revoked")):
        result = run(command, path, "if://guardian/civic")
        assert result.exit_code == 0
        assert f"if://guardian/civic is {status}" in result.stdout
        assert load_registry(path).get("if://guardian/civic").status is GuardianStatus(status)
    assert run_json("revoke", path, "if://guardian/meta")["guardian"]["status"] == "revoked"


@pytest.mark.parametrize(
    "arguments",
    [
        ["suspend", "FILE", "if://guardian/nobody"],
        ["add", "FILE", *NEW, "--alias", "t-01"],
        ["add", "FILE", *NEW[:3], "ed25519:00", *NEW[4:]],
        ["list", "ABSENT"],
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_taxonomy_and_changes_nothing(path, arguments):
    before = path.read_text()
    result = run(*[{"FILE": path, "ABSENT": path.parent / "absent"}.get(argument, argument) for argument in arguments])
    assert isinstance(result.exception, ConfigurationError)
    assert result.stdout == ""
    assert path.read_text() == before


def test_a_missing_option_is_a_usage_error(path):
    assert run("add", path, *NEW[:4]).exit_code == 2


def test_a_key_file_says_who_it_is_and_a_registry_is_begun(tmp_path):
    pair = KeyPair.generate("if://guardian/ann")
    create_key_file(tmp_path / "ann.key", pair)
    begun = tmp_path / "registry.yaml"
    assert run("add", begun, "--role", "chair", "--key", tmp_path / "ann.key").exit_code == 0
    assert load_registry(begun).get("if://guardian/ann").public_key == pair.public
    assert "1 guardian (1 active" in run("check", begun).stdout


@pytest.mark.parametrize("command", ["suspend", "reinstate", "revoke"])
def test_a_short_name_gets_the_whole_one_suggested(path, command):
    before = path.read_text()
    assert "no guardian civic; did you mean if://guardian/civic?" in str(run(command, path, "civic").exception)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (KEY + "\n", "--key: holds a public key"),
        ("guardians: []\n", "--key: is no key file"),
        (None, "--key: the key file can't be read"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "given").write_text(content)
    result = run("add", tmp_path / "registry.yaml", "--role", "chair", "--key", tmp_path / "given")
    assert complaint in str(result.exception)
    assert "chmod" not in str(result.exception)


def test_a_public_key_that_is_none_is_named(tmp_path):
    result = run("add", tmp_path / "registry.yaml", *NEW[:3], "ed25519:00", *NEW[4:])
    assert str(result.exception).startswith("--public-key: ")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([], "--key"),
        (["--public-key", format_public_key(KeyPair.from_seed(bytes(32)).public)], "--terminal-id"),
        (["--key", "KEY", "--public-key", format_public_key(KeyPair.from_seed(bytes(32)).public)], "--public-key"),
    ],
)
def test_who_is_meant_must_be_said_once_and_clearly(tmp_path, arguments, field):
    create_key_file(tmp_path / "ann.key", KeyPair.generate("if://guardian/ann"))
    given = [tmp_path / "ann.key" if argument == "KEY" else argument for argument in arguments]
    result = run("add", tmp_path / "registry.yaml", "--role", "chair", *given)
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.field == field
    assert not (tmp_path / "registry.yaml").exists()
