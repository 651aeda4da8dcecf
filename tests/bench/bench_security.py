"""What signatures and session MACs cost, per message, codec included where a function encodes."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any

from gatekeeperd.security.credential import Claims, decode_credential, read_credential, sign_message, verify_credential
from gatekeeperd.security.session import Direction, check, protect
from gatekeeperd.wire.h225 import decode_ras
from tests.unit.security_samples import ARQ, DRQ, GUARDIAN, SESSION, TERMINAL_ID

RUNS = 15
CALLS = 200


def run() -> list[dict[str, Any]]:
    """Measure; one dict a figure: name, unit, median, min, max, runs."""
    claims = Claims(TERMINAL_ID, "call-1", bandwidth_bps=768_000, counter=41)
    arq = sign_message(ARQ, claims, GUARDIAN, SESSION.challenge, session=SESSION)
    drq = protect(DRQ, SESSION, 41, Direction.TO_GATEKEEPER)
    arq_value, drq_value = decode_ras(arq), decode_ras(drq)
    credential = read_credential(arq_value)
    assert credential is not None
    encoded = credential.encoded
    return [
        _measure(
            "credential_verify_us", lambda: verify_credential(arq, arq_value, credential, GUARDIAN.public, SESSION.challenge)
        ),
        _measure("credential_sign_us", lambda: sign_message(ARQ, claims, GUARDIAN, SESSION.challenge, session=SESSION)),
        _measure("session_check_us", lambda: check(drq, drq_value, SESSION, Direction.TO_GATEKEEPER)),
        _measure("session_protect_us", lambda: protect(DRQ, SESSION, 41, Direction.TO_TERMINAL)),
        _measure("der_decode_us", lambda: decode_credential(encoded)),
    ]


def _measure(name: str, call: Callable[[], object]) -> dict[str, Any]:
    times = [seconds / CALLS * 1e6 for seconds in timeit.repeat(call, number=CALLS, repeat=RUNS)]
    return {"name": name, "unit": "us", "median": statistics.median(times), "min": min(times), "max": max(times), "runs": RUNS}
