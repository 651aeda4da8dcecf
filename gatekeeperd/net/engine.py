"""The core's actions, carried out: datagrams in, commits and datagrams out, one timer.

What lives here: the order of things ("durable, then told to the core, then sent") and their measurement. What never
does: decisions, and any protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Final, Protocol

from gatekeeperd.core.actions import Action, Commit, Send, TransportAddress
from gatekeeperd.net.clock import boottime
from gatekeeperd.net.committer import MAX_PENDING, Committer
from gatekeeperd.net.histogram import Histogram
from gatekeeperd.policy.limits import TokenBucket

_log = logging.getLogger(__name__)


class StateMachine(Protocol):
    """The part of :class:`gatekeeperd.core.gatekeeper.Gatekeeper` that this module drives."""

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float, *, multicast: bool = False) -> list[Action]:
        """Judge one datagram; never raises on account of its octets."""
        ...

    def get_timer(self) -> float | None:
        """Tell when :meth:`handle_timer` is wanted."""
        ...

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due."""
        ...

    def committed(self, ticket: int, now: float) -> None:
        """Hear that a commit is durable."""
        ...


class Sender(Protocol):
    """Where datagrams leave: :class:`gatekeeperd.net.ras.RasSockets`."""

    def send(self, message: Send) -> None:
        """Send one datagram; never raises."""
        ...


#: No timer fires sooner: neighbours share a wakeup, and a fault in a timer can't spin.
_SHORTEST_TIMER_S: Final = 0.001
#: The loop's clock stands still while the machine is suspended and ours does not: look again at least this often.
_LONGEST_TIMER_S: Final = 1.0


class Engine:
    """Drives one state machine on the running loop; ``store`` and ``executor`` are those of :class:`Committer`.

    ``latency`` has a histogram for each message type answered, from the datagram's arrival to its answer's departure.
    ``faults`` counts ``queue_full`` (requests dropped because the ledger does not keep up) and ``core_failed``.
    """

    def __init__(
        self,
        gatekeeper: StateMachine,
        sender: Sender,
        store: Callable[[list[Commit]], object],
        executor: Executor,
        *,
        max_pending: int = MAX_PENDING,
        lost: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self.committer = Committer(store, self._durable, executor, max_pending=max_pending, lost=lost)
        self.latency: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.faults: Counter[str] = Counter()
        self._tracebacks = TokenBucket(rate=0.1, burst=10)

    def receive(self, data: bytes, source: TransportAddress, multicast: bool) -> None:  # noqa: FBT001
        """Take one datagram: a :data:`gatekeeperd.net.ras.Receiver`. Call :meth:`arm` after a burst of them."""
        if self.committer.full:
            self.faults["queue_full"] += 1
            return
        now = boottime()
        try:
            actions = self._gatekeeper.receive_datagram(data, source, now, multicast=multicast)
        except Exception:  # noqa: BLE001 - a fault of the core's
            self._failed(now, f"a datagram of {len(data)} octets from {source[0]} made the core fail")
            return
        self._carry_out(actions, now)

    def _failed(self, now: float, what: str) -> None:
        """Count and log the exception at hand; whoever can provoke it shall not fill the log as well."""
        self.faults["core_failed"] += 1
        if self._tracebacks.take(now):
            _log.exception(what)

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what the core wants for a reason of ours (a reload, a start), and re-arm the timer."""
        self._carry_out(actions, boottime())
        self.arm()

    async def commit(self, commit: Commit) -> None:
        """Return when ``commit`` is durable and what follows from it has been sent."""
        waiter = self._loop.create_future()
        self.committer.submit(commit, boottime(), waiter)
        self.arm()
        # Shielded: the commit goes on when the one who waits gives up.
        await asyncio.shield(waiter)

    def arm(self) -> None:
        """Set the one timer to what the core asks for."""
        due = self._gatekeeper.get_timer()
        if due == self._due:
            return
        self._due = due
        if self._timer is not None:
            self._timer.cancel()
        if due is None:
            self._timer = None
        else:
            delay = min(max(_SHORTEST_TIMER_S, due - boottime()), _LONGEST_TIMER_S)
            self._timer = self._loop.call_later(delay, self._fire)

    def disarm(self) -> None:
        """Run no more timers. For the end of the daemon; commits in flight still finish."""
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        self._due = self._timer = None
        now = boottime()
        try:
            actions = self._gatekeeper.handle_timer(now)
        except Exception:  # noqa: BLE001 - the timer that failed is tried again, the others go on
            actions = []
            self._failed(now, "a timer made the core fail")
        self._carry_out(actions, now)
        self.arm()

    def _carry_out(self, actions: Iterable[Action], arrived: float) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._send(action, arrived)
            else:
                self.committer.submit(action, arrived)

    def _durable(self, commit: Commit, arrived: float) -> None:
        self._gatekeeper.committed(commit.ticket, boottime())
        for message in commit.then:
            self._send(message, arrived)

    def _send(self, message: Send, arrived: float) -> None:
        self._sender.send(message)
        if message.answers:
            self.latency[message.answers].observe(boottime() - arrived)
