"""``gatekeeperd`` as it is typed: what goes together, and a reader that leaves early."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gatekeeperd.cli.daemon import main


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


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    command = [sys.executable, "-m", "gatekeeperd.cli.daemon", "openapi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
