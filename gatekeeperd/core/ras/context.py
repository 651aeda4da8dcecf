"""What every RAS handler works with: the tables, the keys, the timers, and the ways to answer.

What lives here: the one mutable object of the state machine, and the rules of answering that hold for all messages
(MAC, retransmission cache, "commit, then send", RIP). What never does: what a particular message means.
"""

from __future__ import annotations

import hmac
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from gatekeeperd.core.actions import Action, Commit, Json, Record, Send, TransportAddress
from gatekeeperd.core.ras import messages
from gatekeeperd.core.ras.answers import KIND as ANSWER_KIND
from gatekeeperd.core.ras.answers import Answer, AnswerCache
from gatekeeperd.core.ras.links import Link, Standing
from gatekeeperd.core.ras.messages import Message
from gatekeeperd.core.ras.model import Registration
from gatekeeperd.core.ras.state import State, Transaction
from gatekeeperd.core.ras.timers import Timers
from gatekeeperd.core.settings import Settings
from gatekeeperd.policy.gates import Method
from gatekeeperd.policy.limits import SourceLimiter, TokenBucket
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.policy.registry import Registry
from gatekeeperd.security import h235
from gatekeeperd.security import session as sessions
from gatekeeperd.security.challenge import Challenger
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.replay import ReplayWindow, SeenOnce
from gatekeeperd.security.session import Direction, Session
from gatekeeperd.security.tokens import challenge_token, with_tokens
from gatekeeperd.wire import h225

#: H.225.0 v7 table 19 recommends 3 s and two repetitions for most requests.
REQUEST_TIMEOUT_S = 3.0
REQUEST_TRIES = 3

#: Records of what strangers did wrong: more than this a second are counted, and the count is recorded.
STRANGER_RECORDS_PER_S = 50.0
STRANGER_RECORDS_BURST = 500


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded message, where it came from and when."""

    name: str
    value: dict[str, Any]
    pdu: bytes
    source: TransportAddress
    now: float
    multicast: bool
    #: Names these octets from this source: what their retransmission is known by.
    digest: str

    @property
    def message(self) -> Message:
        """The message as the codec gave it."""
        return self.name, self.value

    @property
    def sequence(self) -> int:
        """The requestSeqNum."""
        return int(self.value["requestSeqNum"])


class Purpose(Enum):
    """Why we asked an endpoint something, and so what its silence means."""

    #: URQ or DRQ of ours: repeated until confirmed, silence means nothing.
    TELL = auto()
    #: IRQ at the end of a timeToLive: silence unregisters.
    EXPIRY = auto()
    #: IRQ for one call: silence, or an IRR without it, closes the call.
    CALL = auto()
    #: IRQ before a URQ or DRQ counts that carries no proof of its own.
    CONFIRM = auto()


@dataclass(slots=True)
class Asked:
    """One request of ours that waits for its answer."""

    data: bytes
    to: TransportAddress
    purpose: Purpose
    endpoint_identifier: str
    #: Key of the call that it is about, empty where it is about the endpoint.
    call: str = ""
    #: What waits for the outcome (``Purpose.CONFIRM``).
    request: Request | None = None
    tries: int = 1


@dataclass(slots=True)
class Stats:
    """Counters for the metrics port: plain dictionaries, read at scrape."""

    received: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    admissions: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(slots=True)
class _Pending:
    """A commit on its way: since when, whom it answers, and which cache entry waits for it."""

    since: float
    request: Request | None
    registration: Registration | None
    answer_key: str


class Context:
    """State, keys and clocks of one gatekeeper, and how it answers."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        service_key: KeyPair,
        epoch: int,
        stored: Mapping[str, Mapping[str, bytes]],
        now: float,
        wall: Callable[[float], float],
        randbytes: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        #: Names of the appliance's rooms, as aliases are compared.
        self.rooms = frozenset(room.casefold() for room in settings.rooms)
        self.registry = registry
        self.service_key = service_key
        self.epoch = epoch
        self.wall = wall
        #: What was seen before our start is forgotten, so nothing time-stamped before it is taken.
        self.started_wall = int(wall(now))
        self.randbytes = randbytes
        self.stats = Stats()
        self.state = State(stored)
        self.timers: Timers[tuple[str, str]] = Timers()
        self.challenger = Challenger(randbytes(32), settings.gatekeeper_identifier)
        self.used_challenges = SeenOnce()
        self.password_tokens = SeenOnce()
        self.nonces = SeenOnce()
        self.limiter = SourceLimiter(settings.rates.per_source_per_s, settings.rates.per_source_burst, settings.rates.max_sources)
        self.links: dict[str, Link] = {}
        self.asked: dict[int, Asked] = {}
        self._answers = AnswerCache(settings.answer_cache_entries, settings.answer_cache_s, stored.get(ANSWER_KIND, {}), now)
        self._pending: dict[int, _Pending] = {}
        self._slow: deque[int] = deque()
        self._ticket = 0
        self._sequence = 0
        self._strangers = TokenBucket(STRANGER_RECORDS_PER_S, STRANGER_RECORDS_BURST)
        self.suppressed: Counter[str] = Counter()
        # Pseudonyms must be the same over restarts, so the key is derived from the service's own.
        self._pseudonym_key = service_key.sign(b"guardian-council/pseudonym/1")
        for registration in self.state.registrations():
            if registration.session:
                self.open_link(registration, now, live=False)

    # Names

    def pseudonym(self, text: str) -> str:
        """Hash personal data (names, addresses) for the witness: equal texts stay equal, nobody else can compute it."""
        return hmac.digest(self._pseudonym_key, text.encode(errors="surrogatepass"), "sha256")[:12].hex()

    def new_trace(self) -> str:
        """Make a trace_id: 32 hexadecimal digits."""
        return self.randbytes(16).hex()

    def ras_address(self, towards: TransportAddress) -> TransportAddress:
        """Return our RAS address in the family of ``towards``."""
        return _same_family(self.settings.ras_addresses, towards)

    def call_signal_address(self, towards: TransportAddress) -> TransportAddress:
        """Return our call signalling address in the family of ``towards``."""
        return _same_family(self.settings.call_signal_addresses, towards)

    # Sessions

    def open_link(self, registration: Registration, now: float, *, live: bool) -> None:
        """Begin the running half of a session. Our counters start above all that an earlier epoch used."""
        rates = self.settings.rates
        bucket = TokenBucket(rates.per_session_per_s, rates.per_session_burst)
        bucket.take(now)
        self.links[registration.endpoint_identifier] = Link(bucket, self.epoch << 32, current_is_live=live)

    def settle_standing(
        self, registration: Registration, standing: Standing, session: Session, transaction: Transaction
    ) -> Registration:
        """Note which challenge the terminal holds now; a stale one gets a successor that is told with the answer."""
        link = self.links[registration.endpoint_identifier]
        if standing is Standing.LIVE or (standing is Standing.STALE and link.next_is_live):
            # A message that crossed our answer is told the same successor again.
            return registration
        if standing is Standing.RENEWED:
            renewed = replace(registration, session=session, next_challenge=None)
            link.current_is_live, link.next_is_live, link.window = True, False, ReplayWindow()
        else:
            renewed = replace(registration, session=session, next_challenge=self.randbytes(32))
            link.current_is_live, link.next_is_live = False, True
        self.state.put_registration(renewed, transaction)
        return renewed

    def encode(self, message: Message, registration: Registration | None, now: float) -> bytes:
        """Write a message of ours, proved as its endpoint proves its own.

        That is the MAC and, where due, the fresh challenge of a session, or an H.235.1 token; else nothing.
        """
        link = self.links.get(registration.endpoint_identifier) if registration else None
        if registration is not None and registration.method is Method.H235_1:
            return self._hashed(message, registration, now)
        if registration is None or registration.session is None or link is None:
            return h225.encode_ras(message)
        if link.next_is_live and registration.next_challenge:
            message = with_tokens(message, challenge_token(registration.next_challenge))
        return sessions.protect(message, registration.session, link.next_counter(), Direction.TO_TERMINAL)

    def _hashed(self, message: Message, registration: Registration, now: float) -> bytes:
        """Write a message with an H.235.1 token: an endpoint that uses it takes nothing without (clause 12)."""
        password = self.settings.passwords.get(registration.credential_alias or "")
        if password is None:
            return h225.encode_ras(message)
        return h235.sign_hashed(
            message,
            password=password,
            senders_id=self.settings.gatekeeper_identifier,
            # In the RCF too: h323plus reads its endpointIdentifier there before it checks the token.
            general_id=registration.endpoint_identifier,
            random=int.from_bytes(self.randbytes(4), "big") >> 1,
            time_stamp=int(self.wall(now)),
        )

    # Answers

    def retransmitted(self, request: Request) -> Answer | None:
        """Return the answer that these very octets from this source already got, if it is kept."""
        return self._answers.get(request.digest, request.now)

    def answer(
        self,
        request: Request,
        message: Message,
        *,
        registration: Registration | None = None,
        transaction: Transaction | None = None,
        keep: bool = True,
        behind: bool = True,
    ) -> list[Action]:
        """Answer with a message value; see :meth:`answer_octets`."""
        data = self.encode(message, registration, request.now)
        return self.answer_octets(
            request, message[0], data, registration=registration, transaction=transaction, keep=keep, behind=behind
        )

    def answer_octets(
        self,
        request: Request,
        name: str,
        data: bytes,
        *,
        registration: Registration | None = None,
        transaction: Transaction | None = None,
        keep: bool = True,
        behind: bool = True,
    ) -> list[Action]:
        """Answer a request: after its commit where it changed something, else at once.

        ``keep`` has a retransmission answered alike. ``behind`` puts an answer that changed nothing behind the commits
        on their way, because it may tell of what they change; a keepAlive's does not.
        """
        self.stats.answered[name] += 1
        send = Send(data, request.source, request.name)
        changed = bool(transaction)
        key = request.digest if keep else ""
        if not changed and not (behind and self._pending):
            if keep:
                self._answers.keep(key, Answer(data, request.name, request.now, waits=False, stored=False))
            return [send]
        sends = (*(transaction.sends if transaction else ()), send)
        changes = list(transaction.changes) if transaction else []
        if keep:
            changes += self._answers.keep(key, Answer(data, request.name, request.now, waits=True, stored=changed))
        records = tuple(transaction.records) if transaction else ()
        return [self._commit(tuple(changes), records, sends, _Pending(request.now, request, registration, key))]

    def commit_now(self, transaction: Transaction, now: float) -> Commit:
        """Commit what somebody other than an endpoint asked for, even where it is nothing: the shell waits for it."""
        pending = _Pending(now, None, None, "")
        return self._commit(tuple(transaction.changes), tuple(transaction.records), tuple(transaction.sends), pending)

    def commit(self, transaction: Transaction, now: float) -> list[Action]:
        """Commit what no request asked for, then send what goes with it."""
        if not transaction:
            return list(transaction.sends)
        return [self.commit_now(transaction, now)]

    def _commit(
        self, changes: tuple[Any, ...], records: tuple[Record, ...], sends: tuple[Send, ...], pending: _Pending
    ) -> Commit:
        self._ticket += 1
        self._pending[self._ticket] = pending
        if pending.request is not None:
            self._slow.append(self._ticket)
            if len(self._slow) == 1:
                self.timers.set(("slow", ""), pending.since + self.settings.rip_after_s)
        return Commit(self._ticket, changes, records, sends)

    def committed(self, ticket: int) -> None:
        """Note that a commit is durable: its answer may be repeated from now on."""
        pending = self._pending.pop(ticket)
        if pending.answer_key:
            self._answers.confirm(pending.answer_key)

    def announce_slow(self, now: float) -> list[Action]:
        """Send RIP for each answer that has waited ``rip_after_s`` for its commit (H.225.0 section 7.16)."""
        actions: list[Action] = []
        while self._slow:
            pending = self._pending.get(self._slow[0])
            if pending is not None and pending.request is not None:
                due = pending.since + self.settings.rip_after_s
                if due > now:
                    self.timers.set(("slow", ""), due)
                    break
                actions.append(self.in_progress(pending.request, pending.registration))
            self._slow.popleft()
        return actions

    def in_progress(self, request: Request, registration: Registration | None) -> Send:
        """Make a RIP: have the endpoint wait as long as its own repetitions would."""
        self.stats.answered["requestInProgress"] += 1
        delay_ms = int(REQUEST_TRIES * REQUEST_TIMEOUT_S * 1000)
        message: Message = ("requestInProgress", {"requestSeqNum": request.sequence, "delay": delay_ms})
        return Send(self.encode(message, registration, request.now), request.source)

    # Refusals

    def reject(
        self,
        request: Request,
        choice: str | tuple[str, Any],
        reason: RejectReason,
        detail: str = "",
        *,
        registration: Registration | None = None,
        transaction: Transaction | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> list[Action]:
        """Refuse with the message that belongs to the request.

        ``choice`` is the alternative of its ``rejectReason``, with its value where it has one; ``fields`` are what else
        the message needs. ``detail`` must only ever go to who proved who they are.
        """
        name = messages.REJECT[request.name]
        body = {
            "requestSeqNum": request.sequence,
            "rejectReason": choice if isinstance(choice, tuple) else messages.choice(choice),
            **(fields or {}),
        }
        if name in {"gatekeeperReject", "registrationReject"}:
            body |= {
                "protocolIdentifier": messages.PROTOCOL_IDENTIFIER,
                "gatekeeperIdentifier": self.settings.gatekeeper_identifier,
            }
        body["nonStandardData"] = messages.non_standard(reason, detail)
        return self.answer(
            request, (name, body), registration=registration, transaction=transaction, keep=registration is not None
        )

    def note_stranger(
        self, transaction: Transaction, event: str, request_source: TransportAddress, now: float, **payload: Json
    ) -> None:
        """Record what an unauthenticated sender did; beyond the budget only a count is recorded, once a second."""
        if self._strangers.take(now):
            transaction.record(event, self.new_trace(), source=self.pseudonym(request_source[0]), **payload)
            return
        self.suppressed[event] += 1
        if ("suppressed", "") not in self.timers:
            self.timers.set(("suppressed", ""), now + 1.0)

    # Our own requests

    def ask(
        self,
        registration: Registration,
        message: Message,
        purpose: Purpose,
        transaction: Transaction,
        now: float,
        *,
        call: str = "",
        request: Request | None = None,
    ) -> None:
        """Send a request of ours after the commit at hand, and repeat it until it is answered or its tries are used up."""
        sequence = self._next_sequence()
        name, body = message
        data = self.encode((name, {"requestSeqNum": sequence} | body), registration, now)
        self.asked[sequence] = Asked(data, registration.source, purpose, registration.endpoint_identifier, call, request)
        self.timers.set(("asked", str(sequence)), now + REQUEST_TIMEOUT_S)
        transaction.sends.append(Send(data, registration.source))

    def answered(self, request: Request) -> Asked | None:
        """Take our request that this message answers, if it comes from whom we asked."""
        asked = self.asked.get(request.sequence)
        if asked is None or asked.to != request.source:
            return None
        del self.asked[request.sequence]
        self.timers.cancel(("asked", str(request.sequence)))
        return asked

    def _next_sequence(self) -> int:
        for _ in range(0xFFFF):
            self._sequence = self._sequence % 0xFFFF + 1
            if self._sequence not in self.asked:
                break
        return self._sequence


def _same_family(addresses: tuple[TransportAddress, ...], towards: TransportAddress) -> TransportAddress:
    wanted = ":" in towards[0]
    for address in addresses:
        if (":" in address[0]) == wanted:
            return address
    return addresses[0]
