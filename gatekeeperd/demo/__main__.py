"""``python -m gatekeeperd.demo``: play the demo on loopback as an ordinary user; exit code 1 unless all is as it should be."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gatekeeperd.demo.acts import Play
from gatekeeperd.demo.results import Results
from gatekeeperd.demo.screen import Screen
from gatekeeperd.errors import GuardianError

#: The demo takes a few seconds; something hangs when it takes this long.
_LIMIT_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo; return the exit code."""
    parser = argparse.ArgumentParser("python -m gatekeeperd.demo", description="Eight guardians convene over real H.225 RAS.")
    parser.add_argument("--directory", type=Path, default=Path("build/demo"), help="for all that it writes (%(default)s)")
    parser.add_argument("--pcap", type=Path, metavar="FILE", help="write every packet of the terminals to FILE")
    options = parser.parse_args(arguments)
    screen, results = Screen(), Results(datetime.now(UTC))
    play = Play(options.directory, screen, results)
    started = time.monotonic()
    try:
        asyncio.run(asyncio.wait_for(play.run(), _LIMIT_S))
    except (GuardianError, OSError, TimeoutError) as error:
        screen.failed(str(error) or type(error).__name__)
        return 1
    finally:
        if options.pcap is not None:
            play.recorder.save(options.pcap)
    results.duration_s = time.monotonic() - started
    results.judge()
    report = options.directory / "report.json"
    results.save(report)
    screen.summary(results, str(report))
    return 1 if results.problems else 0


if __name__ == "__main__":
    sys.exit(main())
