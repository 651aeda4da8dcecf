"""The fuzzer that ``make fuzz`` runs, for a minute; ``GATEKEEPERD_FUZZ_SECONDS`` and ``_SEED`` change that."""

from __future__ import annotations

import os

import pytest

from gatekeeperd.wire.per_engine import compiled_engine
from tests.fuzz.codec import fuzz

SECONDS = float(os.environ.get("GATEKEEPERD_FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("GATEKEEPERD_FUZZ_SEED", "1"))


# The compiled variant gets most of the minute: it is what runs in production, and it sees five times as many inputs a second.
@pytest.mark.parametrize(("variant", "share"), [("compiled", 0.85), ("interpreted", 0.15)])
def test_no_input_escapes_or_takes_long(variant: str, share: float) -> None:
    if variant == "compiled" and compiled_engine() is None:
        pytest.skip("the codec is not compiled here: no Cython, or no C compiler")
    report = fuzz(seconds=SECONDS * share, seed=SEED, variant=variant)
    assert report.inputs > 1000
    assert report.decoded > 100
    assert not report.escapes, str(report)
    assert not report.slow, str(report)
