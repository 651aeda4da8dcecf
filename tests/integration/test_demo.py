"""The demo as `make demo` runs it: all of it, its report, its packets in tshark, and that it fails when it should."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from gatekeeperd.demo.__main__ import main
from gatekeeperd.demo.acts import Play
from gatekeeperd.demo.council import convene
from gatekeeperd.demo.results import REJECTIONS, Attempt, Results
from gatekeeperd.demo.screen import Screen
from gatekeeperd.errors import TerminalError
from gatekeeperd.policy.registry import load_registry
from gatekeeperd.wire.h225 import decode_ras, encode_ras


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "gatekeeperd.demo", "--directory", str(directory / "out"), "--pcap", str(directory / "pcap")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_it_says_what_happened(played):
    _, said = played
    assert "All as it should be" in said
    assert "8 of 8 guardians" in said
    assert "6 of 6 attempts" in said
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= 100


def test_its_report_is_as_documented(played):
    directory, _ = played
    report = json.loads((directory / "out" / "report.json").read_text())
    assert set(report) == {"admission", "ras_latency_ms", "witness", "machine", "version", "started_at", "duration_s"}
    assert report["admission"] == {"requested": 8, "admitted": 8, "rejections": dict.fromkeys(REJECTIONS, 1)}
    latency = report["ras_latency_ms"]
    assert set(latency) == {"avg", "p95", "max"}
    assert 0 < latency["avg"] <= latency["max"]
    assert latency["p95"] <= latency["max"]
    assert report["witness"]["verified"] is report["witness"]["tamper_detected"] is True
    assert report["witness"]["records"] > 60
    assert datetime.fromisoformat(report["started_at"]).tzinfo is not None
    assert report["machine"]["cores"] >= 1


def test_no_private_key_of_a_guardian_is_left_behind(played):
    directory, _ = played
    registry = directory / "out" / "guardian-registry.yaml"
    assert len(load_registry(registry)) == 26
    private = [path for path in (directory / "out").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert {path.parent.name for path in private} <= {"state", "tls"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_tshark_finds_nothing_malformed_in_its_packets(played):
    directory, said = played
    port = re.search(r"RAS +127\.0\.0\.10 port (\d+)/udp", said)[1]
    fields = ("-e", "h225.RasMessage", "-e", "_ws.malformed", "-e", "_ws.expert.severity")
    command = ["tshark", "-r", str(directory / "pcap"), "-d", f"udp.port=={port},h225", "-T", "fields", *fields]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert len(lines) > 250
    # Each is a RAS message of a known kind, and there is nothing else to say of it.
    assert all(re.fullmatch(r"\d+\t\t", line) for line in lines)


async def play(directory, members=None):
    results = Results(datetime.now(UTC))
    with (directory / "said").open("w") as said:
        drama = Play(directory, Screen(Console(file=said)), results)
        drama._members = members or drama._members
        async with asyncio.timeout(60):
            await drama.run()
    results.judge()
    return results, drama


async def test_every_packet_is_encoded_as_it_was_decoded(tmp_path):
    _, drama = await play(tmp_path)
    assert len(drama.recorder.frames) > 250
    for frame in drama.recorder.frames:
        assert encode_ras(decode_ras(frame.data)) == frame.data


async def test_a_guardian_that_does_not_get_in_is_a_failure(tmp_path):
    first, second, *others = convene()
    with pytest.raises(TerminalError, match="not registered"):
        await play(tmp_path, (replace(first, key=second.key), second, *others))


def test_a_daemon_that_does_not_start_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gatekeeperd.demo.daemon.HOST", "192.0.2.1")
    assert main(["--directory", str(tmp_path)]) == 1
    assert "did not start" in capsys.readouterr().out


def good():
    results = Results(datetime.now(UTC), requested=8, admitted=8, witness_verified=True)
    results.rejections.update(dict.fromkeys(REJECTIONS, 1))
    results.round_trips_ms.extend(float(number) for number in range(1, 101))
    results.attempts.append(Attempt("a", "b", "NOT_REGISTERED", "NOT_REGISTERED", ""))
    results.tampering.append(Attempt("a", "b", "removed", "removed", ""))
    return results


def test_a_good_run_has_no_problem():
    results = good()
    results.judge()
    assert not results.problems
    assert results.latency_ms() == {"avg": 50.5, "p95": 95.0, "max": 100.0}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda results: setattr(results, "admitted", 7),
        lambda results: setattr(results, "witness_verified", False),
        lambda results: results.rejections.update({"NOT_REGISTERED": 1}),
        lambda results: results.rejections.pop("replayed"),
        lambda results: results.attempts.append(Attempt("a", "b", "INVALID_SIGNATURE", "Admitted", "")),
        lambda results: results.tampering.append(Attempt("a", "b", "removed", "not found", "")),
    ],
)
def test_whatever_is_not_as_it_should_be_is_a_problem(spoil):
    results = good()
    spoil(results)
    results.judge()
    assert len(results.problems) == 1
