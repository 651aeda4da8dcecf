"""The one clock of the daemon.

``CLOCK_BOOTTIME`` never steps and counts the time that a machine was suspended: a registration that ran out meanwhile
has run out. Wall-clock time is asked for H.235 time stamps and records alone.
"""

from __future__ import annotations

import time

_BOOTTIME = time.CLOCK_BOOTTIME
_clock_gettime = time.clock_gettime


def boottime() -> float:
    """Seconds since the machine started, suspended time included."""
    return _clock_gettime(_BOOTTIME)


def wall(now: float) -> float:
    """POSIX seconds of the moment that :func:`boottime` calls ``now``."""
    return time.time() + (now - boottime())
