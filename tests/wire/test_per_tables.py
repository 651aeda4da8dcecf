"""The committed tables are what pycrate's modules say, and the running package needs neither pycrate nor a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeperd.wire.schema import Schema

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_tables_are_what_the_tool_writes() -> None:
    done = subprocess.run(
        [sys.executable, "tools/make_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_codec_loads_neither_pycrate_nor_cython() -> None:
    code = "import sys, gatekeeperd.wire.h225, gatekeeperd.wire.h245; print(*{m.partition('.')[0] for m in sys.modules})"
    assert not {"pycrate_asn1dir", "pycrate_asn1rt", "pycrate_core", "Cython", "cython"} & set(run(code).split())


def test_an_environment_variable_forces_the_interpreted_codec() -> None:
    code = (
        "from gatekeeperd.wire import COMPILED, h225, per;"
        "print(COMPILED, type(h225._RAS._node) is per.Choice, h225.encode_ras(('infoRequestAck', {'requestSeqNum': 7})).hex())"
    )
    octets = run(code).split()[-1]
    assert run(code, GATEKEEPERD_PURE="1") == f"False True {octets}"


def test_tables_that_do_not_parse_are_named(schema: Schema) -> None:
    with pytest.raises(ValueError, match="REAL"):
        schema.codec("INTEGER or REAL", max_octets=1, max_items=1)
