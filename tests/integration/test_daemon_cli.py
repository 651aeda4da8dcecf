"""``gatekeeperd`` as it is typed: what goes together, and a reader that leaves early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_daemon import make_config, make_council, running

from gatekeeperd.cli.daemon import _tell, main


@pytest.mark.parametrize(
    "option",
    [
        ["--bind", "127.0.0.5"],
        ["--registry", "registry.yaml"],
        ["--state", "state"],
        ["--port", "0"],
        ["--http-port", "8443"],
        ["--metrics-port", "0"],
        ["--call-model", "direct"],
        ["--allow-unsigned"],
    ],
)
def test_what_a_configuration_says_is_not_said_twice(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", "gatekeeperd.yaml", *option]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"{option[0]} can't be given with --config: say it in gatekeeperd.yaml\n"
    assert printed.out == ""


async def test_the_banner_names_the_key_of_the_witness_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(make_config(tmp_path, make_council(tmp_path))) as (_, ready):
        node_pub = Path(ready.state) / "node.pub"
        facts = json.loads(ready.to_json())
        _tell(ready)
    assert (facts["node_public_key"], facts["node_public_key_file"]) == (node_pub.read_text().strip(), str(node_pub))
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if line.startswith("node key ")]
    assert line.split(maxsplit=2)[2] == f"{node_pub.read_text().strip()} ({node_pub}), signs the witness log"


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    command = [sys.executable, "-m", "gatekeeperd.cli.daemon", "openapi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
