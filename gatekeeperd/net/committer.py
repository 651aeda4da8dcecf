"""Group commit: what the core decided becomes durable before anybody hears of it.

What lives here: one queue, one write at a time on the ledger's own thread, and the promise that commits are reported
durable in the order they came, each once, and none before it is. What never does: what a commit says, and what follows
from it.

While a group is being written the next one gathers, so a slow disk makes larger groups instead of a longer queue. A
group that fails is kept and written again; nothing behind it overtakes it. One exception: a record that has no canonical
form could never be written. It is a fault of ours; its commit alone is given up, and since memory is now ahead of the
store, ``lost`` is told: the daemon ends and starts again from what is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from gatekeeperd.core.actions import Commit
from gatekeeperd.errors import CanonicalError
from gatekeeperd.net.clock import boottime
from gatekeeperd.net.histogram import Histogram

#: More than this waits only when the disk stands still for seconds; then new requests are dropped at the socket.
MAX_PENDING: Final = 20_000
#: Bounds the memory and the time of one write (some 20 ms of SQLite and hashing).
MAX_GROUP: Final = 1024
RETRY_S: Final = 0.1
#: A write that takes longer than this makes the node not ready.
STALLED_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    commit: Commit
    arrived: float
    waiter: asyncio.Future[None] | None


class Committer:
    """The queue between the event loop and the ledger's thread. All methods are for the loop's thread.

    ``store`` writes a list of commits as one, on ``executor`` (which has one thread); it raises if any of it may not be
    durable. ``durable`` is then called for each, with the time at which its request had arrived.
    """

    def __init__(
        self,
        store: Callable[[list[Commit]], object],
        durable: Callable[[Commit, float], None],
        executor: Executor,
        *,
        max_pending: int = MAX_PENDING,
        retry_s: float = RETRY_S,
        lost: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._durable = durable
        self._executor = executor
        self._max_pending = max_pending
        self._retry_s = retry_s
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._pending = deque[_Pending]()
        self._group: list[_Pending] = []
        self._singly = 0
        self._scheduled = False
        self._write_began = 0.0
        self._failing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.write_seconds = Histogram()
        self.failures = 0
        #: Commits given up because a record of theirs can't be written.
        self.impossible = 0
        #: Witness records that are decided and not yet durable.
        self.lag_records = 0

    @property
    def full(self) -> bool:
        """Whether no new request may be taken. What timers must do still goes in, bounded by what is registered."""
        return len(self._pending) >= self._max_pending

    @property
    def ready(self) -> bool:
        """Whether the last write succeeded and none is stuck."""
        stalled = bool(self._group) and boottime() - self._write_began > STALLED_S
        return not self._failing and not stalled and not self.full

    def submit(self, commit: Commit, arrived: float, waiter: asyncio.Future[None] | None = None) -> None:
        """Queue one commit. ``waiter`` is resolved when it is durable, after ``durable`` was called for it."""
        self._pending.append(_Pending(commit, arrived, waiter))
        self.lag_records += len(commit.records)
        self._idle.clear()
        if not self._scheduled:
            # Not at once: the other datagrams of this wakeup shall share the write.
            self._scheduled = True
            self._loop.call_soon(self._write)

    async def drain(self) -> None:
        """Return when nothing is pending any more."""
        await self._idle.wait()

    def _write(self) -> None:
        if not self._group:
            size = min(len(self._pending), 1 if self._singly else MAX_GROUP)
            self._group = [self._pending.popleft() for _ in range(size)]
            self._singly = max(0, self._singly - 1)
        self._write_began = boottime()
        commits = [entry.commit for entry in self._group]
        self._loop.run_in_executor(self._executor, self._store, commits).add_done_callback(self._written)

    def _written(self, future: asyncio.Future[object]) -> None:
        if future.cancelled():  # the executor was shut down: nothing of this group is acknowledged
            return
        error = future.exception()
        if isinstance(error, CanonicalError):
            self._find_impossible(error)
        elif error is not None:
            self._retry(error)
        else:
            self._acknowledge()

    def _retry(self, error: BaseException) -> None:
        self.failures += 1
        if not self._failing:
            _log.error("the ledger refused %d commits; they are kept and tried again", len(self._group), exc_info=error)
        self._failing = True
        self._loop.call_later(self._retry_s, self._write)

    def _find_impossible(self, error: CanonicalError) -> None:
        """Write the group's commits one by one; give up the one that fails alone."""
        group, self._group = self._group, []
        if len(group) > 1:
            self._pending.extendleft(reversed(group))
            self._singly = len(group)
        else:
            self.impossible += 1
            self.lag_records -= len(group[0].commit.records)
            _log.critical("commit %d can't be written and is given up", group[0].commit.ticket, exc_info=error)
            _resolve(group[0].waiter, error)
            self._lost(error)
        self._next()
        if not self._scheduled:
            self._idle.set()

    def _acknowledge(self) -> None:
        if self._failing:
            _log.warning("the ledger takes commits again")
        self._failing = False
        self.write_seconds.observe(boottime() - self._write_began)
        group, self._group = self._group, []
        self._next()  # the disk works while we answer
        for entry in group:
            self.lag_records -= len(entry.commit.records)
            try:
                self._durable(entry.commit, entry.arrived)
            except Exception:  # noqa: BLE001 - a fault in answering one must not swallow the answers of its group
                _log.exception("commit %d is durable, but what follows it failed", entry.commit.ticket)
            _resolve(entry.waiter)
        if not self._scheduled:
            self._idle.set()

    def _next(self) -> None:
        if self._pending:
            self._write()
        else:
            self._scheduled = False


def _resolve(waiter: asyncio.Future[None] | None, error: Exception | None = None) -> None:
    if waiter is None or waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
