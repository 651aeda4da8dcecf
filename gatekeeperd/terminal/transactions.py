"""Requests that wait for their answer: sequence numbers, retransmission, RIP.

What lives here: the table of open requests and their deadlines. What never does: what an answer means, and clocks
(``now`` is seconds on any monotonic clock, always the same one).

A retransmission is the same octets again (H.225.0 v7 section 7.19): the gatekeeper's cache answers it as before, and
the session's replay window sees nothing new. The exception is a request made under a challenge that was renewed since
(``Line.resend``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import Message
from gatekeeperd.security.credential import Claims
from gatekeeperd.security.session import Exchange
from gatekeeperd.terminal.settings import Retry

#: A gatekeeper may ask for patience this often per request; after that it counts as dead.
MAX_PROGRESS = 8
_SEQUENCE_NUMBERS = 65535  # RequestSeqNum is 1..65535


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One request on its way. ``message`` is the request as built, before tokens, so that it can be signed anew."""

    message: Message
    data: bytes
    to: TransportAddress
    retry: Retry
    call: str | None = None
    claims: Claims | None = None
    exchange: Exchange | None = None
    #: The session challenge that it was made under, ``None`` before there is a session.
    challenge: bytes | None = None
    #: This request already repeats one that met a stale challenge. It is not repeated again.
    repeated: bool = False
    sent_at: float | None = None
    deadline: float | None = None
    attempts: int = 0
    progress: int = 0

    @property
    def name(self) -> str:
        """The request's choice in ``RasMessage``."""
        return self.message[0]

    @property
    def sequence(self) -> int:
        """Its requestSeqNum."""
        number: int = self.message[1]["requestSeqNum"]
        return number


class Transactions:
    """The open requests of one endpoint, by requestSeqNum."""

    def __init__(self, random: Callable[[], float]) -> None:
        # A random start keeps an off-path forger of the unsigned GCF and RRJ guessing.
        self._last = int(random() * _SEQUENCE_NUMBERS)
        self._open: dict[int, Transaction] = {}

    def next_sequence(self) -> int:
        """Return a requestSeqNum (1..65535) that no open request uses."""
        while True:
            self._last = self._last % _SEQUENCE_NUMBERS + 1
            if self._last not in self._open:
                return self._last

    def add(self, transaction: Transaction) -> None:
        """Await an answer to ``transaction``; its clock starts when it is sent."""
        self._open[transaction.sequence] = transaction

    def sent(self, transaction: Transaction, now: float) -> None:
        """Note that the octets left just now."""
        if transaction.sent_at is None:
            transaction.sent_at = now
        transaction.attempts += 1
        transaction.deadline = now + transaction.retry.timeout_s

    def find(self, sequence: int, source: TransportAddress) -> Transaction | None:
        """Return the open request that ``source`` may answer under this number: what went to a group, anybody may."""
        transaction = self._open.get(sequence)
        if transaction is None or not (transaction.to == source or ip_address(transaction.to[0]).is_multicast):
            return None
        return transaction

    def close(self, transaction: Transaction) -> None:
        """Forget a request: answered, given up or no longer of interest."""
        self._open.pop(transaction.sequence, None)

    def clear(self) -> None:
        """Forget every open request."""
        self._open.clear()

    def progress(self, transaction: Transaction, delay_ms: int, now: float) -> bool:
        """RIP: wait ``delay_ms`` (1..65535) from ``now`` before asking again. ``False`` when patience is used up."""
        transaction.progress += 1
        if transaction.progress > MAX_PROGRESS:
            return False
        transaction.deadline = now + delay_ms / 1000
        return True

    def deadline(self) -> float | None:
        """When :meth:`due` has something next."""
        return min((each.deadline for each in self._open.values() if each.deadline is not None), default=None)

    def due(self, now: float) -> tuple[list[Transaction], list[Transaction]]:
        """Return the requests to send again, and those (removed) that are out of retries."""
        late = [each for each in self._open.values() if each.deadline is not None and each.deadline <= now]
        again = [each for each in late if each.attempts <= each.retry.retries]
        dead = [each for each in late if each.attempts > each.retry.retries]
        for each in again:
            each.deadline = None  # until it is sent
        for each in dead:
            self.close(each)
        return again, dead
