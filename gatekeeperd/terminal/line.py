"""What the two halves of an endpoint share: the association, open requests, what waits to be sent and to be told.

What lives here: plumbing between registration (``endpoint``), calls (``call_control``) and the shell.
What never does: what a message means.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from types import MappingProxyType

from gatekeeperd.core.actions import Send, TransportAddress
from gatekeeperd.core.ras.messages import CONFIRM, REJECT, Message
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.credential import Claims
from gatekeeperd.terminal.association import Association
from gatekeeperd.terminal.events import Event, RoundTrip
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.terminal.transactions import Transaction, Transactions

#: Which request an answer answers.
REQUEST_OF: Mapping[str, str] = MappingProxyType(
    {answer: request for table in (CONFIRM, REJECT) for request, answer in table.items()}
    | {"infoRequestNak": "infoRequestResponse"}
)

#: The gatekeeper repeats a request only while it misses our answer; a few are enough.
_KEPT_ANSWERS = 16


class Line:
    """One endpoint's line to its gatekeeper."""

    def __init__(self, settings: EndpointSettings, random: Callable[[], float]) -> None:
        self.settings = settings
        self.transactions = Transactions(random)
        self.association: Association | None = None
        self.events: deque[Event] = deque()
        #: Datagrams that meant nothing, by why: malformed, source, unauthenticated, replayed, forged, unexpected.
        self.ignored: Counter[str] = Counter()
        self._outbox: deque[tuple[Send, Transaction | None]] = deque()
        self._answers: OrderedDict[bytes, Send] = OrderedDict()

    @property
    def secured(self) -> Association:
        """The association in force.

        Raises:
            TerminalError: there is none.

        """
        if self.association is None:
            raise TerminalError("this terminal is not registered")
        return self.association

    def request(self, message: Message, *, call: str | None = None, claims: Claims | None = None) -> None:
        """Send ``message`` under the association, with a credential where there are ``claims``, and await its answer."""
        retry = self.settings.retry[message[0]]
        self._secure(Transaction(message=message, data=b"", to=self.secured.address, retry=retry, call=call, claims=claims))

    def _secure(self, transaction: Transaction) -> None:
        association, message, claims = self.secured, transaction.message, transaction.claims
        transaction.data = association.seal(message) if claims is None else association.sign(message, claims, self.settings.key)
        transaction.challenge = association.challenge
        self.send(transaction)

    def send(self, transaction: Transaction) -> None:
        """Send a request that is ready, and await its answer."""
        self.transactions.add(transaction)
        self._outbox.append((Send(transaction.data, transaction.to), transaction))

    def resend(self, transaction: Transaction) -> None:
        """Send an open request again: the same octets, unless the challenge was renewed since they were made.

        Then they could only be refused, and by a message without a MAC. All requests may be asked twice: the
        gatekeeper knows the call, or knows that it is over.
        """
        if self.association is not None and transaction.challenge != self.association.challenge:
            self.transactions.close(transaction)
            self._renumber(transaction)
        else:
            self._outbox.append((Send(transaction.data, transaction.to), transaction))

    def repeat(self, transaction: Transaction) -> None:
        """Ask once more, as if for the first time, what met a stale challenge."""
        transaction.repeated = True
        transaction.attempts = 0
        transaction.sent_at = None
        self._renumber(transaction)

    def _renumber(self, transaction: Transaction) -> None:
        name, fields = transaction.message
        transaction.message = (name, fields | {"requestSeqNum": self.transactions.next_sequence()})
        self._secure(transaction)

    def notify(self, message: Message) -> None:
        """Send ``message`` under the association; nobody answers it."""
        association = self.secured
        self._outbox.append((Send(association.seal(message), association.address), None))

    def answer(self, pdu: bytes, message: Message) -> None:
        """Answer the gatekeeper's request ``pdu``, and keep the answer for its retransmissions."""
        association = self.secured
        send = Send(association.seal(message), association.address)
        self._answers[_digest(pdu, association.address)] = send
        if len(self._answers) > _KEPT_ANSWERS:
            self._answers.popitem(last=False)
        self._outbox.append((send, None))

    def answer_again(self, pdu: bytes, source: TransportAddress) -> bool:
        """Repeat what was answered to these very octets, also when the registration has ended since."""
        send = self._answers.get(_digest(pdu, source))
        if send is None:
            return False
        self._outbox.append((send, None))
        return True

    def close(self, transaction: Transaction, answer: str, now: float) -> None:
        """Note that ``answer`` (a choice of RasMessage) has answered a request."""
        self.transactions.close(transaction)
        if transaction.sent_at is not None:
            seconds = now - transaction.sent_at
            event = RoundTrip(request=transaction.name, answer=answer, seconds=seconds, attempts=transaction.attempts)
            self.events.append(event)

    def progress(self, transaction: Transaction, delay_ms: int, now: float) -> None:
        """RIP: be patient, within bounds."""
        if not self.transactions.progress(transaction, delay_ms, now):
            self.ignored["unexpected"] += 1

    def drain(self, now: float) -> list[Send]:
        """Take everything that is to leave now; the clocks of the requests among it start."""
        sends = []
        while self._outbox:
            send, transaction = self._outbox.popleft()
            if transaction is not None:
                self.transactions.sent(transaction, now)
            sends.append(send)
        return sends


def _digest(pdu: bytes, source: TransportAddress) -> bytes:
    return sha256(f"{source[0]}|{source[1]}|".encode() + pdu).digest()
