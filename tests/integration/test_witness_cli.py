"""``councilctl witness``: exit codes, what it says, and what it follows."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from typer.testing import CliRunner

from gatekeeperd.cli.witness import app
from gatekeeperd.core.actions import Change, Commit, Record, Stream
from gatekeeperd.security.keys import key_id
from gatekeeperd.store.ledger import Ledger
from gatekeeperd.witness.canonical import canonical

KEY = SigningKey(bytes(range(32)))
PUBLIC = f"ed25519:{bytes(KEY.verify_key).hex()}"


def _open(directory: Path) -> Ledger:
    return Ledger.open(directory, node="node-a", signing_key=KEY, clock=time.time_ns)


def _commit(ledger: Ledger, event: str, trace: str = "ab" * 16, stream: Stream = Stream.RAS) -> None:
    ledger.commit(
        [Commit(1, (Change("call", trace, b"{}"),), (Record(event, trace, {"note": "\x9b31m\u202e", "granted": True}, stream),))]
    )


@pytest.fixture
def log(tmp_path) -> Path:
    ledger = _open(tmp_path)
    _commit(ledger, "registration")
    _commit(ledger, "takeover", "cd" * 16, Stream.HA)
    _commit(ledger, "admission")
    ledger.close()
    return tmp_path


def _run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _alter(log: Path) -> None:
    (path,) = log.glob("ha/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"true", b"null"))


def test_a_log_with_a_trusted_key_verifies(log):
    result = _run("verify", log, "--key", PUBLIC)
    assert result.exit_code == 0
    assert "verified: 7 records (1 to 7), 2 checkpoints, signed to 7" in result.output
    assert "can replace it too" not in result.output


def test_without_a_key_it_says_whose_key_it_used(log):
    result = _run("verify", log)
    assert result.exit_code == 0
    assert "who can replace the log can replace it too" in result.output
    assert PUBLIC in result.output


def test_a_key_file_is_read(log, tmp_path):
    (tmp_path / "trusted.pub").write_text(PUBLIC + "\n")
    assert _run("verify", log, "--key", tmp_path / "trusted.pub").exit_code == 0


def test_another_key_than_the_nodes_is_said_once(log):
    other = f"ed25519:{bytes(SigningKey.generate().verify_key).hex()}"
    result = _run("verify", log, "--key", other)
    assert result.exit_code == 1
    assert "is it node.pub (not service.pub)?" in " ".join(result.output.split())
    assert "NOT VERIFIED, another key" in result.output
    assert "TAMPERED" not in result.output
    told = json.loads(_run("verify", log, "--key", other, "--json").output)
    assert [finding["kind"] for finding in told["findings"]] == ["other_key"]
    assert (told["verified"], told["tampered"], told["signed"], told["findings_not_listed"]) == (False, False, 0, 0)


def test_another_key_does_not_hide_what_was_altered(log):
    _alter(log)
    told = json.loads(_run("verify", log, "--key", f"ed25519:{bytes(SigningKey.generate().verify_key).hex()}", "--json").output)
    assert {finding["kind"] for finding in told["findings"]} == {"altered", "other_key"}
    assert told["tampered"] is True


def test_a_log_that_another_key_went_on_with_is_tampered_with(log):
    other = SigningKey.generate()
    head = next(log.rglob("head.json"))
    body = json.loads(head.read_text())
    head.write_bytes(canonical(body | {"key_id": key_id(bytes(other.verify_key)).hex()}) + b"\n")
    result = _run("verify", log, "--key", PUBLIC)
    assert result.exit_code == 1
    assert "bad_signature" in result.output
    assert "TAMPERED" in result.output
    assert "other_key" not in result.output


def test_the_directory_beside_is_suggested(log, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    log.rename(state / "witness")
    assert f"did you mean {state / 'witness'}?" in _run("verify", state).stderr
    assert f"did you mean {state / 'witness'}?" in _run("verify", state / "witness" / "h323_witness").stderr


def test_a_key_of_another_kind_is_named(log, tmp_path):
    (tmp_path / "node.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    result = _run("verify", log, "--key", tmp_path / "node.key")
    assert result.exit_code == 2
    assert f"{tmp_path / 'node.key'}: --key: holds a private key" in result.stderr
    assert "--key: can't be read: No such file" in _run("verify", log, "--key", "nosuch").stderr
    assert _run("verify", log, "--key", "ed25519:00").stderr.startswith("--key: ")


def test_an_altered_record_is_named(log):
    _alter(log)
    result = _run("verify", log, "--key", PUBLIC)
    assert result.exit_code == 1
    assert "TAMPERED" in result.output
    assert "altered" in result.output
    assert "ha/failover_" in result.output


def test_json_has_the_same_facts(log):
    healthy = json.loads(_run("verify", log, "--json", "--key", PUBLIC).output)
    assert healthy["verified"] is True
    assert healthy["public_key_trusted"] is True
    assert (healthy["records"], healthy["signed"], healthy["findings"]) == (7, 7, [])
    _alter(log)
    result = _run("verify", log, "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert (told["verified"], told["tampered"], told["public_key_trusted"]) == (False, True, False)
    (finding,) = told["findings"]
    assert (finding["kind"], finding["gravity"], finding["index"], finding["line"]) == ("altered", "tampering", 4, 1)


def test_a_head_from_elsewhere_shows_a_cut(log):
    held = json.loads(_run("verify", log, "--json").output)["head"]
    head = f"{held['index']}:{held['hash']}"
    assert _run("verify", log, "--head", head).exit_code == 0
    later = _run("verify", log, "--head", f"{held['index'] + 1}:{held['hash']}")
    assert later.exit_code == 1
    assert "cut_off" in later.output
    other = _run("verify", log, "--head", f"{held['index']}:{'0' * 64}")
    assert other.exit_code == 1
    assert "head_mismatch" in other.output


def test_a_wait_that_the_auditor_allows_is_no_finding(tmp_path):
    now = [time.time_ns()]
    ledger = Ledger.open(tmp_path, node="node-a", signing_key=KEY, clock=lambda: now[0])
    _commit(ledger, "admission")
    now[0] += 8_000_000_000
    ledger.close()
    assert "late_checkpoint" in _run("verify", tmp_path).output
    assert _run("verify", tmp_path).exit_code == 1
    assert _run("verify", tmp_path, "--checkpoint-seconds", 10).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", "ed25519:abc"],
        ["--key", "ed25519:" + "00" * 32],
        ["--key", "no/such/file"],
        ["--head", "5"],
        ["--head", "5:" + "g" * 64],
    ],
)
def test_what_can_not_be_used_is_exit_code_2(log, arguments):
    result = _run("verify", log, *arguments)
    assert result.exit_code == 2
    assert result.stderr.strip()
    assert "Traceback" not in result.output


def test_no_log_or_no_key_is_exit_code_2(log, tmp_path):
    assert _run("verify", tmp_path / "absent").exit_code == 2
    (log / "h323_witness/node.pub").unlink()
    result = _run("verify", log)
    assert result.exit_code == 2
    assert "--key" in result.stderr


def test_show_prints_the_chain_in_order_and_moves_no_cursor(log):
    result = _run("show", log)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == [str(index) for index in range(1, 8)]
    assert "\x9b" not in result.output
    assert "\u202e" not in result.output


def test_show_filters(log):
    lines = _run("show", log, "--event", "takeover", "--json").output.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["takeover"]
    lines = _run("show", log, "--trace", "abab", "--json").output.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["registration", "admission"]


def test_show_goes_on_past_a_broken_record_and_names_it(log):
    _alter(log)
    result = _run("show", log)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 6
    assert "does not match the hash" in result.stderr


def test_follow_prints_what_comes(tmp_path):
    ledger = _open(tmp_path)
    _commit(ledger, "first")
    command = [
        sys.executable,
        "-c",
        "from gatekeeperd.cli.witness import app; app()",
        "show",
        str(tmp_path),
        "--follow",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        events = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
        _commit(ledger, "second")
        _commit(ledger, "third", stream=Stream.GATEWAY)
        events += [json.loads(process.stdout.readline())["event"] for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == ""
    ledger.close()
    assert events == ["resumed", "checkpoint", "first", "second", "third"]
