"""councilctl itself: its commands, its version, and how it says what went wrong."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gatekeeperd import __version__
from gatekeeperd.cli import commands, council
from gatekeeperd.cli.join import _place, _resolve
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.keys import KeyPair, create_key_file


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["councilctl", *arguments])
    with pytest.raises(SystemExit) as exit_:
        council.main()
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_it_lists_every_command():
    result = CliRunner().invoke(commands.app, ["--help"])
    assert result.exit_code == 0
    for name in ("admit", "decode", "join", "keys", "registry", "sessions", "witness"):
        assert f" {name} " in result.output


@pytest.mark.parametrize("command", ["admit", "decode", "join", "keys", "registry", "sessions", "witness"])
def test_every_command_has_help(command):
    result = CliRunner().invoke(commands.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version") == (0, f"councilctl {__version__}\n", "")


def test_an_error_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, "keys", "show", str(tmp_path / "none"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert str(tmp_path / "none") in err


def test_wrong_usage_is_exit_code_2(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "join")
    assert code == 2
    assert "Missing option" in err


#: A Python in which one module can't be found.
WITHOUT = """
import sys
absent = sys.argv[1]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from gatekeeperd.cli.council import main
sys.argv[1:] = ["--version"]
main()
"""


@pytest.mark.parametrize("package", ["typer", "rich", "httpx", "dpkt"])
def test_a_missing_extra_is_named(package):
    done = subprocess.run([sys.executable, "-c", WITHOUT, package], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"councilctl needs the package {package}: pip install 'gatekeeperd[terminal]'\n"


def test_any_other_missing_module_is_a_bug_and_shown_as_one():
    done = subprocess.run([sys.executable, "-c", WITHOUT, "nacl"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "technical.key"
    create_key_file(path, KeyPair.generate("if://guardian/technical"))
    return path


def test_join_does_not_trust_just_anybody(monkeypatch, capsys, key):
    code, _, err = run(monkeypatch, capsys, "join", "--gatekeeper", "127.0.0.1", "--key", str(key))
    assert code == 2
    assert "anybody could pose" in err


def test_join_wants_to_know_who_it_is(monkeypatch, capsys, tmp_path):
    path = tmp_path / "anonymous.key"
    create_key_file(path, KeyPair.generate())
    pinned = f"ed25519:{KeyPair.generate().public.hex()}"
    code, _, err = run(monkeypatch, capsys, "join", "--gatekeeper", "127.0.0.1", "--key", str(path), "--service-key", pinned)
    assert code == 2
    assert "--terminal-id" in err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 1719)),
        ("192.0.2.1:1720", ("192.0.2.1", 1720)),
        ("2001:db8::1", ("2001:db8::1", 1719)),
        ("2001:0db8:0::1", ("2001:db8::1", 1719)),
        ("[2001:db8::1]:1720", ("2001:db8::1", 1720)),
        ("[2001:db8::1]", ("2001:db8::1", 1719)),
    ],
)
def test_addresses_as_people_write_them(text, address):
    assert _resolve(text, 1719) == address
    assert _resolve(_place(address), 1) == address


@pytest.mark.parametrize("text", ["192.0.2.1:x", "192.0.2.1:70000", "[2001:db8::1]:", "no.such.host.invalid", "300.0.0.1"])
def test_what_is_no_address_is_said(text):
    if text.endswith(":"):
        assert _resolve(text, 1719)[1] == 1719
        return
    with pytest.raises(TerminalError):
        _resolve(text, 1719)
