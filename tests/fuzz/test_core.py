"""The core's fuzzer, for ten seconds; ``GATEKEEPERD_FUZZ_SECONDS`` (of both fuzzers, 60) and ``_SEED`` change that."""

from __future__ import annotations

import os

from tests.fuzz.core import fuzz

SECONDS = float(os.environ.get("GATEKEEPERD_FUZZ_SECONDS", "60")) / 6
SEED = int(os.environ.get("GATEKEEPERD_FUZZ_SEED", "1"))


def test_nothing_that_arrives_harms_the_core() -> None:
    report = fuzz(seconds=SECONDS, seed=SEED)
    assert not report.findings, str(report)
    assert report.inputs > 300
    assert {"registrationConfirm", "admissionConfirm", "admissionReject", "unregistrationRequest"} <= report.sent.keys()
