"""Who is registered, which calls are admitted, and the sums that the gates ask for.

What lives here: the tables with their indexes, kept consistent. What never does: a decision, a message, a timer.
Every change goes through a :class:`Transaction`, which notes what the commit has to make durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from gatekeeperd.core.actions import Change, Json, Record, Send, TransportAddress
from gatekeeperd.core.ras.model import Alias, Call, Fact, Grant, Registration, call_key
from gatekeeperd.policy.gates import CallType, Usage


@dataclass(slots=True)
class Transaction:
    """What one request changes, before it is committed: the only mutable thing that handlers pass around."""

    changes: list[Change] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)

    def record(self, event: str, trace_id: str, **payload: Json) -> None:
        """Note one witness record."""
        self.records.append(Record(event, trace_id, payload))

    def __bool__(self) -> bool:
        return bool(self.changes or self.records)


@dataclass(slots=True)
class _Sum:
    """Calls and bit/s of one account, room, or of all."""

    calls: int = 0
    bps: int = 0

    def add(self, bps: int, sign: int) -> None:
        self.calls += sign
        self.bps += sign * bps


class State:
    """Registrations, calls and grants. Lookups are dictionary reads; nothing here grows but by a commit."""

    __slots__ = (
        "_accounts",
        "_aliases",
        "_calls",
        "_endpoint_calls",
        "_grant_aliases",
        "_grants",
        "_guardians",
        "_identifiers",
        "_journal",
        "_provers",
        "_registrations",
        "_rooms",
        "_routine",
        "_sessions",
        "_signal",
        "_total",
    )

    def __init__(self, stored: Mapping[str, Mapping[str, bytes]]) -> None:
        self._registrations: dict[str, Registration] = {}
        self._aliases: dict[str, str] = {}
        self._guardians: dict[str, str] = {}
        self._signal: dict[tuple[str, TransportAddress], str] = {}
        #: Addresses of endpoints whose messages prove themselves, and how many have each.
        self._provers: Counter[TransportAddress] = Counter()
        self._calls: dict[str, Call] = {}
        self._sessions: dict[str, str] = {}
        self._endpoint_calls: dict[str, set[str]] = {}
        self._identifiers: dict[bytes, str] = {}
        self._grants: dict[str, Grant] = {}
        self._grant_aliases: dict[tuple[str, str], str] = {}
        self._accounts: dict[str, _Sum] = {}
        self._rooms: dict[str, _Sum] = {}
        self._total = _Sum()
        self._routine = _Sum()
        #: What the request at hand replaced, and by what: (before, after).
        self._journal: list[tuple[Fact | None, Fact | None]] = []
        for octets in stored.get(Registration.KIND, {}).values():
            self._index_registration(Registration.load(octets))
        for octets in stored.get(Call.KIND, {}).values():
            self._index_call(Call.load(octets))
        for octets in stored.get(Grant.KIND, {}).values():
            self._index_grant(Grant.load(octets))

    # A request is done whole or not at all

    def begin(self) -> None:
        """Forget how to undo what was done so far."""
        self._journal.clear()

    def rollback(self) -> tuple[list[Fact], list[Fact]]:
        """Undo everything since :meth:`begin`; return the facts that are back, and those that are no more."""
        revived: list[Fact] = []
        dropped: list[Fact] = []
        for before, after in reversed(self._journal):
            if after is not None:
                self._forget(after)
                dropped.append(after)
            if before is not None:
                self._index(before)
                revived.append(before)
        self._journal.clear()
        return revived, dropped

    def facts(self) -> list[Fact]:
        """All facts."""
        return [*self._registrations.values(), *self._calls.values(), *self._grants.values()]

    def _index(self, fact: Fact) -> None:
        match fact:
            case Registration():
                self._index_registration(fact)
            case Call():
                self._index_call(fact)
            case Grant():
                self._index_grant(fact)

    def _forget(self, fact: Fact) -> Fact | None:
        match fact:
            case Registration():
                return self._forget_registration(fact.key)
            case Call():
                return self._forget_call(fact.key)
            case Grant():
                return self._forget_grant(fact.key)
        return None

    def _put(self, fact: Fact, transaction: Transaction) -> None:
        self._journal.append((self._forget(fact), fact))
        self._index(fact)
        transaction.changes.append(fact.stored())

    def _remove(self, fact: Fact, transaction: Transaction) -> None:
        self._journal.append((self._forget(fact), None))
        transaction.changes.append(fact.removed())

    # Registrations

    def registration(self, endpoint_identifier: str) -> Registration | None:
        """Return the live registration of that endpointIdentifier."""
        return self._registrations.get(endpoint_identifier)

    def registrations(self) -> Iterable[Registration]:
        """All live registrations."""
        return self._registrations.values()

    @property
    def registration_count(self) -> int:
        """How many endpoints are registered."""
        return len(self._registrations)

    def of_guardian(self, terminal_id: str) -> Registration | None:
        """Return the one live registration of a guardian."""
        identifier = self._guardians.get(terminal_id)
        return self._registrations.get(identifier) if identifier else None

    def of_alias(self, alias: Alias) -> Registration | None:
        """Return who is registered under an alias, whatever the kind it was spelled as."""
        identifier = self._aliases.get(normal_alias(alias))
        return self._registrations.get(identifier) if identifier else None

    def of_signal_address(self, source_host: str, address: TransportAddress) -> Registration | None:
        """Return who registered that callSignalAddress from that host (behind a NAT two may name the same address)."""
        identifier = self._signal.get((source_host, address))
        return self._registrations.get(identifier) if identifier else None

    def proves(self, source: TransportAddress) -> bool:
        """Say whether an endpoint is registered from there that proves its messages."""
        return source in self._provers

    def put_registration(self, registration: Registration, transaction: Transaction) -> None:
        """Add or replace by endpointIdentifier. The caller made sure that the aliases are free."""
        self._put(registration, transaction)

    def remove_registration(self, registration: Registration, transaction: Transaction) -> None:
        """Forget one registration; its calls are the caller's business."""
        self._remove(registration, transaction)

    def _index_registration(self, registration: Registration) -> None:
        identifier = registration.endpoint_identifier
        self._registrations[identifier] = registration
        for alias in registration.aliases:
            self._aliases[normal_alias(alias)] = identifier
        if registration.terminal_id:
            self._guardians[registration.terminal_id] = identifier
        if registration.proves_messages:
            self._provers[registration.source] += 1
        if registration.call_signal_address:
            self._signal[registration.source[0], registration.call_signal_address] = identifier

    def _forget_registration(self, identifier: str) -> Registration | None:
        old = self._registrations.pop(identifier, None)
        if old is None:
            return None
        for alias in old.aliases:
            if self._aliases.get(normal_alias(alias)) == identifier:
                del self._aliases[normal_alias(alias)]
        if old.terminal_id and self._guardians.get(old.terminal_id) == identifier:
            del self._guardians[old.terminal_id]
        if old.proves_messages:
            self._provers[old.source] -= 1
            if not self._provers[old.source]:
                del self._provers[old.source]
        if old.call_signal_address:
            where = (old.source[0], old.call_signal_address)
            if self._signal.get(where) == identifier:
                del self._signal[where]
        return old

    # Calls

    def call(self, call_identifier: bytes, endpoint_identifier: str) -> Call | None:
        """Return the part of one endpoint in one call."""
        return self._calls.get(call_key(call_identifier, endpoint_identifier))

    def call_by_key(self, key: str) -> Call | None:
        """Return the call stored under ``key``."""
        return self._calls.get(key)

    def caller_of(self, call_identifier: bytes) -> Call | None:
        """Return the calling endpoint's part, where that endpoint is ours."""
        key = self._identifiers.get(call_identifier)
        return self._calls.get(key) if key else None

    def calls_of(self, endpoint_identifier: str) -> list[Call]:
        """All calls of one endpoint, in the order of admission."""
        return [self._calls[key] for key in self._endpoint_calls.get(endpoint_identifier, ())]

    def calls(self) -> Iterable[Call]:
        """All admitted parts of calls, in the order of admission."""
        return self._calls.values()

    @property
    def call_count(self) -> int:
        """How many parts of calls are admitted."""
        return len(self._calls)

    def put_call(self, call: Call, transaction: Transaction) -> None:
        """Add or replace by callIdentifier and endpoint."""
        self._put(call, transaction)

    def remove_call(self, call: Call, transaction: Transaction) -> None:
        """Forget one part of a call and give its bandwidth back."""
        self._remove(call, transaction)

    def _index_call(self, call: Call) -> None:
        key = call.key
        self._calls[key] = call
        self._sessions[call.session_id] = key
        self._endpoint_calls.setdefault(call.endpoint_identifier, set()).add(key)
        if not call.answer_call:
            self._identifiers.setdefault(call.call_identifier, key)
        self._count(call.account, call.room, call.bandwidth_bps, 1)
        if call.call_type is CallType.ROUTINE:
            self._routine.add(call.bandwidth_bps, 1)

    def _forget_call(self, key: str) -> Call | None:
        old = self._calls.pop(key, None)
        if old is None:
            return None
        self._sessions.pop(old.session_id, None)
        keys = self._endpoint_calls[old.endpoint_identifier]
        keys.discard(key)
        if not keys:
            del self._endpoint_calls[old.endpoint_identifier]
        if self._identifiers.get(old.call_identifier) == key:
            del self._identifiers[old.call_identifier]
        self._count(old.account, old.room, old.bandwidth_bps, -1)
        if old.call_type is CallType.ROUTINE:
            self._routine.add(old.bandwidth_bps, -1)
        return old

    # Grants

    def grant(self, session_id: str) -> Grant | None:
        """Return a voucher by its session_id."""
        return self._grants.get(session_id)

    def grant_for(self, alias: Alias, host: str) -> Grant | None:
        """Return the voucher for an alias at an address."""
        session_id = self._grant_aliases.get((normal_alias(alias), host))
        return self._grants.get(session_id) if session_id else None

    def grants(self) -> Iterable[Grant]:
        """All live vouchers."""
        return self._grants.values()

    def put_grant(self, grant: Grant, transaction: Transaction) -> None:
        """Add or replace a voucher."""
        self._put(grant, transaction)

    def remove_grant(self, grant: Grant, transaction: Transaction) -> None:
        """Forget a voucher and what it reserved."""
        self._remove(grant, transaction)

    def _index_grant(self, grant: Grant) -> None:
        self._grants[grant.session_id] = grant
        self._grant_aliases[grant.alias.casefold(), grant.host] = grant.session_id
        if grant.calls_left:
            self._count(grant.terminal_id, grant.room, grant.bandwidth_bps, 1)

    def _forget_grant(self, session_id: str) -> Grant | None:
        old = self._grants.pop(session_id, None)
        if old is None:
            return None
        if self._grant_aliases.get((old.alias.casefold(), old.host)) == session_id:
            del self._grant_aliases[old.alias.casefold(), old.host]
        if old.calls_left:
            self._count(old.terminal_id, old.room, old.bandwidth_bps, -1)
        return old

    # Sums

    @property
    def bandwidth_bps(self) -> int:
        """Bandwidth granted to all calls and reserved by vouchers, in bit/s."""
        return self._total.bps

    def call_of_session(self, session_id: str) -> Call | None:
        """Return the call that a session_id names."""
        key = self._sessions.get(session_id)
        return self._calls.get(key) if key else None

    def usage(self, account: str, room: str, *, live_registration: bool | None, without: Call | Grant | None = None) -> Usage:
        """Sum up what the gates weigh, leaving out ``without``: what the request at hand would replace."""
        mine = self._accounts.get(account, _NOTHING)
        there = self._rooms.get(room, _NOTHING) if room else _NOTHING
        usage = Usage(
            guardian_bps=mine.bps,
            guardian_calls=mine.calls,
            total_bps=self._total.bps,
            room_participants=there.calls,
            preemptible_bps=self._routine.bps,
            live_registration=live_registration,
        )
        if without is None:
            return usage
        # Vouchers reserve bandwidth, but only calls can be cut.
        routine = isinstance(without, Call) and without.call_type is CallType.ROUTINE
        own_account = without.account if isinstance(without, Call) else without.terminal_id
        return replace(
            usage,
            guardian_bps=usage.guardian_bps - (without.bandwidth_bps if own_account == account else 0),
            guardian_calls=usage.guardian_calls - (own_account == account),
            total_bps=usage.total_bps - without.bandwidth_bps,
            room_participants=usage.room_participants - (bool(room) and without.room == room),
            preemptible_bps=usage.preemptible_bps - (without.bandwidth_bps if routine else 0),
        )

    def _count(self, account: str, room: str, bps: int, sign: int) -> None:
        self._total.add(bps, sign)
        for table, name in ((self._accounts, account), (self._rooms, room)):
            if not name:
                continue
            entry = table.setdefault(name, _Sum())
            entry.add(bps, sign)
            if not entry.calls:
                del table[name]

    def holders(self, aliases: Iterable[Alias]) -> Iterator[tuple[Alias, Registration]]:
        """Yield those of ``aliases`` that somebody is registered under, and who."""
        for alias in aliases:
            holder = self.of_alias(alias)
            if holder:
                yield alias, holder


_NOTHING = _Sum()


def normal_alias(alias: Alias) -> str:
    """Return the form that aliases are compared in: the text alone, without case (H.323 v7 leaves the kind to the caller)."""
    return alias[1].casefold()
