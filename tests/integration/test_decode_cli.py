"""``councilctl decode`` as a person and a script run it: what it prints, and what it exits with."""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import dpkt
import pytest
import typer
from typer.testing import CliRunner

from gatekeeperd.cli.decode import decode
from gatekeeperd.wire import h225

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"
FAST_START = CAPTURES / "04-direct-faststart.pcap"
SEPARATE = CAPTURES / "03-direct-alerting-answer-separate-h245.pcap"

app = typer.Typer()
app.command()(decode)


def run(*arguments, columns=None):
    # FORCE_COLOR makes rich take the pipe for a terminal of that many columns.
    env = {"COLUMNS": str(columns), "FORCE_COLOR": "1", "TERM": "xterm"} if columns else {"FORCE_COLOR": None, "COLUMNS": None}
    return CliRunner(env=env).invoke(app, [str(argument) for argument in arguments])


def ras_capture(path, *payloads):
    """A capture of RAS datagrams from one terminal."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=101)
        for number, payload in enumerate(payloads):
            transport = dpkt.udp.UDP(sport=1719, dport=1719, ulen=8 + len(payload), data=payload)
            packet = dpkt.ip.IP(src=b"\x0a\0\0\x05", dst=b"\x0a\0\0\x01", p=17, len=28 + len(payload), data=transport)
            writer.writepkt(bytes(packet), 1_700_000_000 + number)
    return path


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_one_line_a_message_in_a_pipe():
    result = run(FAST_START)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line for line in result.stdout.split("\n\n")[0].splitlines() if line]
    assert len(lines) == 36
    assert "10.77.0.12:50637 → 10.77.0.1:1719    RAS    gatekeeperRequest" in lines[0]
    setup = next(index for index, line in enumerate(lines) if "Q.931  Setup " in line)
    assert "ref 30672 · from 1001 · display alice" in lines[setup]
    assert "└ H.225  setup  call 905736de · from alice, 1001 · to bob" in lines[setup + 1]
    assert "└ fastStart openLogicalChannel  channel 101 · sends g711Alaw64k" in lines[setup + 3]
    assert "passed over: 154 other UDP datagrams" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_terminal_lines_fit(columns):
    result = run(FAST_START, "--check", columns=columns)
    assert result.exit_code == 0
    assert "\x1b[" in result.stdout
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    assert columns - 20 < max(map(len, text.splitlines())) <= columns
    assert "check passed: all 36 values survive" in text


def test_check_explains_other_octets():
    result = run(FAST_START, "--check")
    assert result.exit_code == 0
    assert "RAS    registrationRequest    seq 10544" in result.stdout
    assert "bitmap 24 of 27 bits" in result.stdout
    rows = {
        line.split()[0]: line.split()[1:]
        for line in result.stdout.splitlines()
        if line[:1].isalpha() and line.split()[1].isdigit()
    }
    assert rows["RAS"] == ["20", "0", "8", "12", "0"]
    assert rows["Q.931"] == ["5", "0", "5", "0", "0"]
    assert rows["fastStart"] == ["6", "0", "0", "6", "0"]
    assert rows["total"] == ["36", "0", "13", "23", "0"]
    assert (
        "23 with other octets: the sender's version knows fewer extensions, so its extension bitmap is shorter" in result.stdout
    )


def test_json_has_one_object_a_line_and_a_summary_last():
    *found, summary = records(run(FAST_START, "--json", "--check"))
    assert Counter(record["protocol"] for record in found) == {"RAS": 20, "Q.931": 5, "H.225": 5, "fastStart": 6}
    assert all(bytes.fromhex(record["octets"]) for record in found)
    setup = next(record for record in found if record["name"] == "Setup")
    information = found[setup["index"] + 1]
    assert information["parent"] == setup["index"]
    body = information["value"]["h323-uu-pdu"]["h323-message-body"]["setup"]
    assert body["protocolIdentifier"] == "0.0.8.2250.0.7"
    assert body["sourceAddress"] == [{"h323-ID": "alice"}, {"dialledDigits": "1001"}]
    assert body["callIdentifier"] == {"guid": "905736def2e5f11180a346a739deadee"}
    assert body["conferenceGoal"] == {"create": None}
    assert information["check"] == {"fault": None, "cause": "shorter_bitmap", "bitmaps": [[14, 28], [2, 9]]}
    assert setup["value"]["elements"][1] == {"identifier": "0x28", "name": "display", "contents": "616c69636500"}
    assert setup["time"].startswith("2026-11-23T")
    assert summary["type"] == "summary"
    assert summary["pdus"] == {"RAS": 20, "Q.931": 5, "H.225": 5, "H.245": 0, "fastStart": 6}
    assert summary["check"] == {"changed": 0, "differing": 23, "causes": {"shorter_bitmap": 23}}


def test_json_of_a_password_hash_is_its_bits():
    found = records(run(CAPTURES / "20-auth-md5-direct.pcap", "--json"))
    requests = [record for record in found if record.get("name") == "registrationRequest"]
    tokens = [token for record in requests for token in record["value"]["registrationRequest"].get("cryptoTokens", [])]
    hashes = {token["cryptoEPPwdHash"]["token"]["hash"] for token in tokens}
    assert hashes
    assert all(len(digits) == 128 and set(digits) <= {"0", "1"} for digits in hashes)


def test_verbose_shows_every_field():
    result = run(CAPTURES / "05-direct-callee-rejects.pcap", "--verbose")
    assert result.exit_code == 0
    text = result.stdout
    assert "dialledDigits  1001" in text
    assert "ip  0a4d000c  10.77.0.12" in text
    assert "'H323Plus simple'" in text
    assert "name  user_user" in text
    assert "… 163 octets" in text


def test_check_fails_on_what_does_not_decode(tmp_path):
    good = h225.encode_ras(("unregistrationConfirm", {"requestSeqNum": 9}))
    path = ras_capture(tmp_path / "bad.pcap", good, b"\xff\xff\xff\xff", good)
    result = run(path, "--check")
    assert result.exit_code == 1
    assert "RAS    does not decode" in result.stdout
    assert "4 octets ffffffff" in result.stdout
    assert "check failed: 0 values change, 1 messages do not decode" in result.stdout
    assert run(path).exit_code == 0
    *_, bad, _, summary = records(run(path, "--check", "--json"))
    assert (bad["type"], bad["octets"], bad["frame"]) == ("undecoded", "ffffffff", 2)
    assert (summary["undecoded"], summary["pdus"]["RAS"]) == (1, 2)


def test_check_fails_where_a_value_changes(monkeypatch):
    def forgetful(message):
        name, fields = message
        return h225.encode_ras((name, {**fields, "requestSeqNum": 1}))

    monkeypatch.setattr("gatekeeperd.capture.check._CODINGS", _with_ras_encoder(forgetful))
    result = run(FAST_START, "--check")
    assert result.exit_code == 1
    assert "encoding it again gives another value" in result.stdout
    assert "check failed: 20 values change, 0 messages do not decode" in result.stdout


def _with_ras_encoder(encode):
    from dataclasses import replace

    from gatekeeperd.capture import check
    from gatekeeperd.capture.dissect import Protocol

    return {**check._CODINGS, Protocol.RAS: replace(check._CODINGS[Protocol.RAS], encode=encode)}


def test_padding_is_explained(tmp_path):
    padded = h225.encode_ras(("unregistrationConfirm", {"requestSeqNum": 9})) + b"\0\0"
    result = run(ras_capture(tmp_path / "padded.pcap", padded), "--check")
    assert result.exit_code == 0
    assert "1 with other octets: the sender padded the message with zero octets" in result.stdout


def test_octets_that_were_not_captured_are_told_and_are_no_fault(tmp_path):
    with SEPARATE.open("rb") as file:
        frames = [(time, data) for number, (time, data) in enumerate(dpkt.pcap.Reader(file), 1) if number != 29]
    path = tmp_path / "gap.pcap"
    with path.open("wb") as file:
        dpkt.pcap.Writer(file).writepkts(frames)
    result = run(path, "--check")
    assert result.exit_code == 0
    assert "incomplete" in result.stdout
    assert "octets before this segment were not captured" in result.stdout
    assert "passed over: 1 incomplete in the capture" in result.stdout
    *found, summary = records(run(path, "--json"))
    assert [record["type"] for record in found].count("incomplete") == summary["incomplete"] == 1


def test_unexplained_octets_are_shown_and_counted(tmp_path):
    # The extension bit and a bitmap that names no extension: legal, and nothing that we would write.
    plain = h225.encode_ras(("unregistrationConfirm", {"requestSeqNum": 9}))
    odd = bytes([plain[0] | 0b10]) + plain[1:] + b"\0\0"
    result = run(ras_capture(tmp_path / "odd.pcap", odd), "--check")
    assert result.exit_code == 0
    assert "seq 9 · octets differ, unexplained" in result.stdout
    assert "1 with other octets: unexplained" in result.stdout


def test_torn_capture_names_file_and_frame_after_what_it_held(tmp_path):
    torn = tmp_path / "torn.pcap"
    torn.write_bytes(SEPARATE.read_bytes()[:3000])
    for arguments in (["--check"], ["--json"], []):
        result = run(torn, *arguments)
        assert result.exit_code == 2
        assert result.stderr == f"error: {torn}: frame 21: the file ends after 9 of 66 octets\n"
        assert "admissionConfirm" in result.stdout
        assert "Traceback" not in result.output


def test_no_capture_at_all(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a capture")
    result = run(text)
    assert (result.exit_code, result.stderr) == (2, f"error: {text}: neither pcap nor pcapng\n")
    assert result.stdout == ""
    assert run(tmp_path / "missing.pcap").exit_code == 2


def test_peers_can_not_play_with_the_terminal(tmp_path):
    reject = {
        "requestSeqNum": 1,
        "protocolIdentifier": (0, 0, 8, 2250, 0, 7),
        "gatekeeperIdentifier": "\x1b]0;owned\x07[bold]",
        "rejectReason": ("resourceUnavailable", None),
    }
    path = ras_capture(tmp_path / "evil.pcap", h225.encode_ras(("gatekeeperReject", reject)))
    result = run(path, "--verbose")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert r"\x1b]0;owned\x07[bold]" in result.stdout


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.pcap")), ids=lambda path: path.stem)
def test_tshark_counts_the_same_messages(path):
    kinds = ("h245.request", "h245.response", "h245.command", "h245.indication")
    fields = ["h225.RasMessage", "q931.message_type", *kinds]
    command = ["tshark", "-r", path, "-T", "fields", *(part for field in fields for part in ("-e", field))]
    environment = {**os.environ, "LC_ALL": "C"}
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    theirs = Counter()
    for line in lines:
        for field, values in zip(fields, line.split("\t"), strict=True):
            theirs[field] += len(values.split(",")) if values else 0
    summary = records(run(path, "--json"))[-1]
    assert summary["pdus"]["RAS"] == theirs["h225.RasMessage"]
    assert summary["pdus"]["Q.931"] == theirs["q931.message_type"]
    assert summary["pdus"]["H.245"] == sum(theirs[kind] for kind in kinds)
