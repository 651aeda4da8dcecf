"""``python -m tests.fuzz``: run the fuzzer; exit 1 on any finding."""

from __future__ import annotations

import argparse
import sys

from gatekeeperd.wire import COMPILED
from tests.fuzz.codec import fuzz

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Mutation fuzzer for the PER codec.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on after the fixed inputs")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
    parser.add_argument(
        "--variant", choices=("compiled", "interpreted"), default="compiled" if COMPILED else "interpreted", help="which codec"
    )
    arguments = parser.parse_args()
    report = fuzz(seconds=arguments.seconds, seed=arguments.seed, variant=arguments.variant)
    print(report)  # noqa: T201
    sys.exit(1 if report.escapes or report.slow else 0)
