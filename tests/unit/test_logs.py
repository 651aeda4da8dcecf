"""The daemon's log: one line an event, whatever a peer put into it."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from gatekeeperd.logs import JsonFormatter, TextFormatter


def record(message: str, *arguments: object) -> logging.LogRecord:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        made = logging.LogRecord("gatekeeperd.test", logging.ERROR, __file__, 1, message, arguments, sys.exc_info())
    made.created = 1_795_489_855.25
    made.msecs = 250
    return made


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record("from %s", "a\nb"))
    assert "\n" not in line
    entry = json.loads(line)
    assert "ZeroDivisionError" in entry.pop("traceback")
    assert entry == {"time": "2026-11-24T03:10:55.250Z", "level": "error", "logger": "gatekeeperd.test", "message": "from a\nb"}


@pytest.mark.parametrize("hostile", ["\n2026-11-24T03:10:55Z INFO forged: line", "\x1b[31mred", "\r", "\u2028", "\x00"])
def test_text_keeps_a_peers_control_characters_out_of_the_terminal(hostile: str) -> None:
    line, _, traceback = TextFormatter().format(record("from %s", hostile)).partition("\n")
    assert line.startswith("2026-11-24T03:10:55Z ERROR gatekeeperd.test: from \\")
    assert line.isprintable()
    assert traceback.startswith("Traceback")
