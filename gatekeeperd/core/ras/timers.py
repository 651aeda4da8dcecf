"""Deadlines by key, on a heap: cheap to move, cheap to forget.

A keepAlive moves its registration's deadline at 15,000 a second: :meth:`Timers.set` only writes a dictionary entry
when the deadline moves later, and the heap entry is corrected when it comes up.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

#: Stale heap entries that are tolerated beyond one a live key, so that rebuilding costs O(1) a change.
SLACK = 64

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """One deadline (seconds, same clock as ``now``) per key."""

    __slots__ = ("_due", "_heap", "_queued", "_serial")

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        #: Deadline of the one live heap entry of each key; any other entry of that key is stale.
        self._queued: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def __len__(self) -> int:
        return len(self._due)

    def due(self, key: Key) -> float | None:
        """Return the deadline of ``key``, ``None`` if it is not set."""
        return self._due.get(key)

    def set(self, key: Key, deadline: float) -> None:
        """Have ``key`` come due at ``deadline``, whatever was set before."""
        self._due[key] = deadline
        queued = self._queued.get(key)
        if queued is None or deadline < queued:
            self._push(key, deadline)

    def cancel(self, key: Key) -> None:
        """Forget ``key``; no harm if it is not set."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """Return the earliest deadline, ``None`` if nothing is set."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Key | None:
        """Take one key whose deadline has come, ``None`` if there is none."""
        self._settle()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._queued[key], self._due[key]
        return key

    def _push(self, key: Key, deadline: float) -> None:
        # The serial keeps the heap from comparing keys, which need not be orderable.
        self._serial += 1
        self._queued[key] = deadline
        heapq.heappush(self._heap, (deadline, self._serial, key))
        if len(self._heap) > 2 * len(self._due) + SLACK:
            self._rebuild()

    def _rebuild(self) -> None:
        """Drop the stale entries: a cancelled four-hour deadline must not stay for four hours."""
        self._queued = dict(self._due)
        self._heap = [(deadline, serial, key) for serial, (key, deadline) in enumerate(self._due.items())]
        self._serial = len(self._heap)
        heapq.heapify(self._heap)

    def _settle(self) -> None:
        """Bring a true deadline to the top of the heap."""
        while self._heap:
            queued, _, key = self._heap[0]
            if self._queued.get(key) != queued:
                heapq.heappop(self._heap)
                continue
            due = self._due.get(key)
            if due == queued:
                return
            heapq.heappop(self._heap)
            del self._queued[key]
            if due is not None:
                self._push(key, due)
