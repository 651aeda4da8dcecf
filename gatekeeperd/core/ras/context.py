"""What every RAS handler works with: the tables, the keys, the timers, and the ways to answer.

What lives here: the one mutable object of the state machine, and the rules of answering that hold for all messages
(MAC, retransmission cache, "commit, then send", RIP). What never does: what a particular message means.
"""

from __future__ import annotations

import hmac
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gatekeeperd.core.actions import Action, Commit, Json, Record, Send, TransportAddress
from gatekeeperd.core.ras import messages
from gatekeeperd.core.ras.answers import KIND as ANSWER_KIND
from gatekeeperd.core.ras.answers import Answer, AnswerCache
from gatekeeperd.core.ras.asking import REQUEST_TIMEOUT_S, REQUEST_TRIES, Asked
from gatekeeperd.core.ras.links import Link, Standing
from gatekeeperd.core.ras.messages import Message
from gatekeeperd.core.ras.model import Call, Fact, Grant, Registration
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

#: What may pass when a source's budget is spent: a guardian registers once, and repeats a request a few times.
COOKIES_PER_S = 2.0
COOKIES_BURST = 10
DECODES_PER_S = 2000.0
DECODES_BURST = 1000
REPEATS_PER_S = 20.0
REPEATS_BURST = 40


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
        self._passwords: dict[str, str] = {}
        self.replace_passwords(settings.passwords)
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
        #: Calls that endpoints have disengaged: an ARQ that the DRQ overtook must not begin one again.
        self.disengaged = SeenOnce()
        self.limiter = SourceLimiter(settings.rates.per_source_per_s, settings.rates.per_source_burst, settings.rates.max_sources)
        #: RRQs that bring a cookie of ours, by source: each may cost a signature check.
        self.cookie_limiter = SourceLimiter(COOKIES_PER_S, COOKIES_BURST, settings.rates.max_sources)
        #: Kept answers that are repeated to sources beyond their budget.
        self.repeats = TokenBucket(REPEATS_PER_S, REPEATS_BURST)
        #: Datagrams beyond their source's budget that are decoded at all: a fifth of a processor's time at the most.
        self.decodes = TokenBucket(DECODES_PER_S, DECODES_BURST)
        self._undone = 0
        self.links: dict[str, Link] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self.asked: dict[int, Asked] = {}
        #: Sequence numbers that the request at hand added to ``asked``.
        self.asked_now: list[int] = []
        self._answers = AnswerCache(settings.answer_cache_entries, settings.answer_cache_s, stored.get(ANSWER_KIND, {}), now)
        self._pending: dict[int, _Pending] = {}
        self._slow: deque[int] = deque()
        self._ticket = 0
        # Not from 1: an answer to a request of ours should not be guessed.
        self._sequence = int.from_bytes(randbytes(2), "big")
        self._strangers = TokenBucket(settings.rates.stranger_records_per_s, settings.rates.stranger_records_burst)
        self.suppressed: Counter[str] = Counter()
        # Pseudonyms must be the same over restarts, so the key is derived from the service's own.
        self._pseudonym_key = service_key.sign(b"guardian-council/pseudonym/1")
        for fact in self.state.facts():
            self._revive(fact, now, spread=self._fraction() / 4)

    # What a request does is done whole or not at all

    def begin(self) -> None:
        """Begin a request: what it changes can be undone until the next begins."""
        self.state.begin()
        self.asked_now.clear()

    @contextmanager
    def whole(self, now: float) -> Iterator[None]:
        """Undo what is changed within, if it raises."""
        self.begin()
        try:
            yield
        except BaseException:
            self.undo(now)
            raise

    def undo(self, now: float) -> None:
        """Take back what the request at hand has changed in memory, because nothing of it will be committed."""
        revived, dropped = self.state.rollback()
        self._undone += 1
        for fact in (*dropped, *revived):
            # What ran beside a session may be ahead of it: begin anew, with a fresh challenge and counters never used.
            self.links.pop(fact.key, None)
        for fact in revived:
            self._revive(fact, now)
        for sequence in self.asked_now:
            del self.asked[sequence]
            self.timers.cancel(("asked", str(sequence)))
        self.asked_now.clear()

    def _revive(self, fact: Fact, now: float, spread: float = 0.0) -> None:
        if isinstance(fact, Registration) and fact.session and fact.key not in self.links:
            self.open_link(fact, live=False)
        self.start_clocks(fact, now, spread)

    def start_clocks(self, fact: Fact, now: float, spread: float = 0.0) -> None:
        """Give a fact its whole time from now on. ``spread`` adds a part of it: after a restart not all may come due at once."""
        key = fact.key
        match fact:
            case Registration():
                self.timers.set(("registration", key), now + fact.time_to_live_s * (1 + spread))
            case Call():
                # The longest that it may last, and how long its endpoint may stay silent about it.
                self.timers.set(("longest", key), now + self.settings.limits.longest_call_s)
                self.timers.set(("idle", key), now + 2 * self.settings.irr_frequency_s * (1 + spread))
            case Grant():
                self.timers.set(("grant", key), now + fact.lifetime_s)

    def _fraction(self) -> float:
        return int.from_bytes(self.randbytes(2), "big") / 0x10000

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

    # Passwords and sessions

    def replace_passwords(self, passwords: Mapping[str, str]) -> None:
        """Take new passwords: an endpoint whose password changed or is gone proves nothing from its next message on."""
        self._passwords = {alias.casefold(): password for alias, password in passwords.items()}

    def password(self, alias: str) -> str | None:
        """Return the password of an alias, which counts in every spelling, like the alias itself."""
        return self._passwords.get(alias.casefold())

    def bucket(self, registration: Registration) -> TokenBucket:
        """Return the rate limit of one endpoint that authenticates its messages."""
        bucket = self._buckets.get(registration.key)
        if bucket is None:
            rates = self.settings.rates
            bucket = self._buckets[registration.key] = TokenBucket(rates.per_session_per_s, rates.per_session_burst)
        return bucket

    def open_link(self, registration: Registration, *, live: bool) -> None:
        """Begin the running half of a session. Our counters start above all that an earlier epoch used."""
        self.links[registration.key] = Link(
            self.bucket(registration), self.epoch << 32 | self._undone << 20, current_is_live=live
        )

    def forget_endpoint(self, registration: Registration) -> None:
        """Drop what runs beside a registration that is no more."""
        self.links.pop(registration.key, None)
        self._buckets.pop(registration.key, None)
        self.disengaged.forget(registration.key)
        self.timers.cancel(("registration", registration.key))

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

    def encode(self, message: Message, registration: Registration | None, now: float, *, challenge: bool = True) -> bytes:
        """Write a message of ours, proved as its endpoint proves its own; without ``challenge`` it tells no fresh one.

        That is the MAC and, where due, the fresh challenge of a session, or an H.235.1 token; else nothing.
        """
        link = self.links.get(registration.endpoint_identifier) if registration else None
        if registration is not None and registration.method is Method.H235_1:
            return self._hashed(message, registration, now)
        if registration is None or registration.session is None or link is None:
            return h225.encode_ras(message)
        if challenge and link.next_is_live and registration.next_challenge:
            message = with_tokens(message, challenge_token(registration.next_challenge))
        return sessions.protect(message, registration.session, link.next_counter(), Direction.TO_TERMINAL)

    def _hashed(self, message: Message, registration: Registration, now: float) -> bytes:
        """Write a message with an H.235.1 token: an endpoint that uses it takes nothing without (clause 12)."""
        password = self.password(registration.credential_alias or "")
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

    def keeps(self, digest: str, now: float) -> bool:
        """Say whether the request of that digest got an answer that is kept."""
        return self._answers.get(digest, now) is not None

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
        on their way, because it may tell of what they change; a keepAlive's does not, unless it tells a fresh challenge.
        """
        link = self.links.get(registration.endpoint_identifier) if registration else None
        behind = behind or (link is not None and link.next_is_live)
        self.stats.answered[name] += 1
        send = Send(data, request.source, request.name)
        changed = bool(transaction)
        key = request.digest if keep else ""
        if not changed and not (behind and self._pending):
            if keep:
                self._answers.keep(key, Answer(data, request.now, waits=False, stored=False))
            return [send]
        sends = (*(transaction.sends if transaction else ()), send)
        changes = list(transaction.changes) if transaction else []
        if keep:
            changes += self._answers.keep(key, Answer(data, request.now, waits=True, stored=changed))
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

    def behind(self, sends: list[Send], now: float) -> list[Action]:
        """Send once all that is being committed is durable."""
        return [self.commit_now(Transaction(sends=sends), now)] if self._pending else list(sends)

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
        # No fresh challenge: the commit that it waits for may be the one that makes it durable.
        return Send(self.encode(message, registration, request.now, challenge=False), request.source)

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

    def next_sequence(self) -> int:
        """Return a requestSeqNum for a request of ours, one that nothing waits under if there is any."""
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
