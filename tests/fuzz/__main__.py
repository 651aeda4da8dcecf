"""``python -m tests.fuzz``: run a fuzzer; exit 1 on any finding."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from gatekeeperd.wire import COMPILED
from tests.fuzz import codec

PROGRESS_S = 1.0


class Progress:
    """One line on a terminal that says how far it is; nothing where nobody looks."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def __call__(self, report: Any) -> None:
        """Show it, at most once a second."""
        now = time.monotonic()
        if sys.stderr.isatty() and now >= self._next:
            self._next = now + PROGRESS_S
            sys.stderr.write(f"\r{report.inputs:,} inputs, {len(report.findings)} findings\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Make room for the report."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def main() -> int:
    """Run as told; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Mutation fuzzers for the codec and the core.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on after the fixed inputs")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
    parser.add_argument("--core", action="store_true", help="the RAS state machine, not the codec")
    parser.add_argument(
        "--variant", choices=("compiled", "interpreted"), default="compiled" if COMPILED else "interpreted", help="which codec"
    )
    arguments = parser.parse_args()
    progress = Progress()
    if arguments.core:
        sys.path.append(str(Path(__file__).resolve().parents[1]))
        from tests.fuzz import core

        report: Any = core.fuzz(seconds=arguments.seconds, seed=arguments.seed, progress=progress)
    else:
        report = codec.fuzz(seconds=arguments.seconds, seed=arguments.seed, variant=arguments.variant, progress=progress)
    progress.end()
    print(report)  # noqa: T201
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
