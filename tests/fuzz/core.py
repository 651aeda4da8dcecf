"""A fuzzer for the state machine: whatever arrives, from whomever and in whatever order, it answers or keeps silent.

Four rules are checked:

- no datagram and no timer makes the core raise
- whatever it sends fits a datagram and decodes
- memory holds what the store holds: a restart at any moment loses nothing and brings nothing back
- life goes on: afterwards a guardian still registers and is admitted

Octets damaged at random seldom get past the decoder, and what is not proved never gets past authentication. So most inputs
are messages of an endpoint that is let in, with its MAC and credential or unsigned where that is allowed, in which some
fields were replaced by others of their type or by what somebody else said there.
"""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gatekeeperd.core.actions import Send, TransportAddress
from gatekeeperd.core.ras.state import State
from gatekeeperd.core.settings import RateLimits
from gatekeeperd.errors import DecodeError, SecurityError, WireError
from gatekeeperd.security.session import Exchange
from gatekeeperd.security.tokens import read_challenge
from gatekeeperd.wire import h225
from gatekeeperd.wire.tables import TYPES
from tests.fuzz.codec import RAS, captured, mutated
from tests.fuzz.values import Values, list_of, parts
from tests.unit.ras_zone import Peer, Zone, guardian, key

# Inputs to one gatekeeper before the next one starts from nothing.
LIFE = 300
GUIDS = [bytes([number]) * 16 for number in range(1, 5)]
NO_LIMIT = RateLimits(per_source_per_s=1e9, per_source_burst=10**9, per_session_per_s=1e9, per_session_burst=10**9)
FIELDS = {name: parts(TYPES[kind][1] + (TYPES[kind][2] or ())) for name, kind, _ in parts(TYPES[RAS[0]][1])}
FIELDS |= {
    name: parts(TYPES[kind][1] + (TYPES[kind][2] or ())) for name, kind, _ in parts(TYPES[RAS[0]][2] or ()) if kind in TYPES
}


@dataclass
class Report:
    """What came of a run; ``findings`` are text, with the input in hexadecimal where there is one."""

    inputs: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in a few lines."""
        said = ", ".join(f"{count} {name}" for name, count in self.sent.most_common())
        head = f"{self.inputs} datagrams; sent: {said or 'nothing'}"
        return "\n".join([head, *(f"FINDING {text}" for text in self.findings)])


class Unanswered(Exception):
    """The gatekeeper kept silent where a conversation wanted an answer."""


class FuzzPeer(Peer):
    """An endpoint whose datagrams are watched; keeps up with fresh challenges."""

    def __init__(self, life: Life, host: str, name: str, number: int | None) -> None:
        super().__init__(life.zone, host, name, None if number is None else key(number))
        self.life = life

    def exchange(self, pdu: bytes) -> bytes:
        for send in self.life.deliver(pdu, self.source):
            if send.to == self.source and send.answers:
                return send.data
        raise Unanswered


class Life:
    """One gatekeeper, two guardians, two room systems, and what is done to them."""

    def __init__(self, rng: random.Random, report: Report, seeds: list[bytes]) -> None:
        self.rng = rng
        self.report = report
        self.seeds = seeds
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.zone = Zone(
            [guardian(f"g{number}", key(number + 1)) for number in range(2)],
            allow_unsigned=True,
            pre_grant=rng.random() < 0.2,
            neighbours=("192.0.2.12",),
            rates=NO_LIMIT,
        )
        self.peers = [FuzzPeer(self, f"192.0.2.{10 + number}", f"g{number}", number + 1) for number in range(2)]
        self.peers += [FuzzPeer(self, f"192.0.2.{12 + number}", f"room{number}", None) for number in range(2)]
        self.peers.append(FuzzPeer(self, "2001:db8::9", "six", None))

    # What is watched

    def deliver(self, data: bytes, source: TransportAddress, *, multicast: bool = False) -> list[Send]:
        self.report.inputs += 1
        return self._watched(lambda: self.zone.deliver(data, source, multicast=multicast), f"{data.hex()} from {source}")

    def _watched(self, act: Callable[[], list[Send]], what: str) -> list[Send]:
        try:
            sends = act()
        except Exception as error:  # noqa: BLE001 - what must never be is what this looks for
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.report.findings.append(f"{error!r} at {where.filename}:{where.lineno} from {what}")
            return []
        for send in sends:
            try:
                name, value = h225.decode_ras(send.data)
            except DecodeError as error:
                self.report.findings.append(f"we sent {send.data.hex()}: {error}; after {what}")
                continue
            self.report.sent[name] += 1
            if send.answers:
                self.report.answered[send.answers] += 1
            self._renew(send, (name, value))
        return sends

    def _renew(self, send: Send, message: tuple[str, Any]) -> None:
        """Let the peer that this was sent to follow a fresh challenge, as after a restart."""
        for peer in self.peers:
            if (
                peer.source == send.to
                and peer.session is not None
                and message[0] != "gatekeeperConfirm"
                and read_challenge(message)
            ):
                peer.renew(message)

    def compare(self) -> None:
        """Compare memory with the store; nothing may be on its way."""
        self._watched(self.zone.release, "a commit")
        memory = {fact.key: fact for fact in self.zone.core._context.state.facts()}
        stored = {fact.key: fact for fact in State(self.zone.stored).facts()}
        if memory != stored:
            differing = sorted(str(name) for name in memory.keys() | stored.keys() if memory.get(name) != stored.get(name))
            self.report.findings.append(
                f"memory and store differ in {', '.join(differing)[:300]} after {self.report.inputs} inputs"
            )

    # What is done

    def live(self) -> None:
        for peer in self.peers:
            self._register(peer)
        for number in range(LIFE):
            self.rng.choices(
                (self._valid, self._replaced, self._damaged, self._wait, self._restart, self._hold), (20, 55, 20, 3, 1, 3)
            )[0]()
            if number % 20 == 19:
                self.compare()
        self.compare()
        self._goes_on()

    def _valid(self) -> None:
        peer = self.rng.choice(self.peers)
        if self.rng.random() < 0.15:
            self._register(peer)
        else:
            self._say(peer, self._message(peer))

    def _replaced(self) -> None:
        peer = self.rng.choice(self.peers)
        self._say(peer, self._changed(self._message(peer)))

    def _damaged(self) -> None:
        octets = self.rng.choice(self.seeds)
        for _ in range(self.rng.choice((0, 1, 1, 2, 5))):
            octets = mutated(self.rng, octets or b"\0", self.rng.choice(self.seeds))
        if self.rng.random() < 0.05:
            octets += self.rng.randbytes(h225.MAX_RAS_OCTETS)
        self.deliver(octets[: h225.MAX_RAS_OCTETS], self._source(), multicast=self.rng.random() < 0.1)

    def _wait(self) -> None:
        seconds = self.rng.choice((0.1, 1, 5, 31, 130))
        self._watched(lambda: self.zone.advance(seconds), f"{seconds} s of waiting")

    def _restart(self) -> None:
        self.compare()
        self.zone.boot()

    def _hold(self) -> None:
        """Let commits wait from now on, as on a slow disk; the next comparison releases them."""
        self.zone.hold = True

    def _source(self) -> TransportAddress:
        if self.rng.random() < 0.7:
            return self.rng.choice(self.peers).source
        return self.rng.choice([("198.51.100.7", 1719), ("2001:db8::77", 65535), ("192.0.2.10", 1), ("0.0.0.0", 0)])

    def _register(self, peer: FuzzPeer) -> None:
        if self.zone.hold:
            self.compare()
        try:
            peer.register()
        except Unanswered:
            peer.session = None

    def _message(self, peer: FuzzPeer) -> tuple[str, dict[str, Any]]:
        """Return what such an endpoint says, or what none would."""
        guid = self.rng.choice(GUIDS)
        other = ("h323-ID", self.rng.choice(["g0", "g1", "room0", "council", "nobody"]))
        say = self.rng.choice(
            (
                peer.grq, peer.rrq, peer.keep_alive, peer.urq,
                lambda: peer.arq(guid, to=other),
                lambda: peer.arq(guid, to=other, answerCall=True),
                lambda: peer.brq(guid), lambda: peer.drq(guid),
                peer.irr,
                lambda: peer.irr(guid, sequence=self.rng.choice([None, *self._asked()])),
                lambda: peer.irr(*self.rng.sample(GUIDS, 2)),
                lambda: peer.rai(low=self.rng.random() < 0.5),
                peer.sci, lambda: peer.lrq(other), self._confirmation, self._any, self._foreign,
            )
        )  # fmt: skip
        message = say()
        self.said = [*self.said[-30:], message]
        return message

    def _asked(self) -> list[int]:
        """Return the sequence numbers of the gatekeeper's own requests that wait for an answer."""
        return sorted(self.zone.core._context.asked)

    def _confirmation(self) -> tuple[str, dict[str, Any]]:
        sequence = self.rng.choice([7, *self._asked()])
        name = self.rng.choice(["unregistrationConfirm", "disengageConfirm", "unregistrationReject", "disengageReject"])
        reason = {"rejectReason": ("callInProgress", None)} if name == "unregistrationReject" else {}
        reason = {"rejectReason": ("notRegistered", None)} if name == "disengageReject" else reason
        return name, {"requestSeqNum": sequence} | reason

    def _foreign(self) -> tuple[str, dict[str, Any]]:
        """Return what the gatekeeper does not act on, and so repeats in its answer."""
        data = {"nonStandardIdentifier": ("object", (1, 3)), "data": b""}
        return "nonStandardMessage", {"requestSeqNum": self.rng.randint(1, 65535), "nonStandardData": data}

    def _any(self) -> tuple[str, dict[str, Any]]:
        name = self.rng.choice(sorted(FIELDS))
        return Values(self.rng, items=self.rng.choice((50, 500))).message(RAS[0], name)

    def _changed(self, message: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        """Return the message with a few of its fields replaced, added, removed, repeated, or taken from another message."""
        name, value = message[0], dict(message[1])
        for member, kind, _ in self.rng.sample(FIELDS[name], min(self.rng.randint(1, 3), len(FIELDS[name]))):
            several = list_of(kind)
            way = self.rng.random()
            if way < 0.15:
                value.pop(member, None)
            elif way < 0.4:
                known = [said[member] for _, said in self.said if member in said]
                if known:
                    value[member] = self.rng.choice(known)
            elif way < 0.55 and several and several[1] < 0:
                items = value.get(member) or [Values(self.rng, items=20).of(several[2])]
                value[member] = items * self.rng.choice((2, 20, 200))
            else:
                value[member] = Values(self.rng, items=self.rng.choice((10, 100, 1000))).of(kind)
        if self.rng.random() < 0.05 and any(member == "nonStandardData" for member, _, _ in FIELDS[name]):
            filler = self.rng.randbytes(self.rng.randint(7_000, h225.MAX_RAS_OCTETS))
            value["nonStandardData"] = {"nonStandardIdentifier": ("object", (1, 3)), "data": filler}
        return name, value

    def _say(self, peer: FuzzPeer, message: tuple[str, dict[str, Any]]) -> None:
        """Send it with the proof that it needs, if it can be written at all."""
        try:
            if peer.session is None:
                pdu = h225.encode_ras(message)
            elif message[0] == "admissionRequest":
                pdu = peer.signed(message)
            elif message[0] == "registrationRequest" and not message[1].get("keepAlive"):
                pdu = peer.signed_rrq(message, peer.challenge(), Exchange.generate())
            else:
                pdu = peer.protected(message)
        except (WireError, SecurityError, KeyError, Unanswered):
            # Too long, too many fields, a token of that kind already, no bandWidth: an endpoint could not send it either.
            return
        self.seeds[self.rng.randrange(len(self.seeds))] = pdu
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.deliver(pdu, peer.source if self.rng.random() < 0.95 else self._source())

    def _goes_on(self) -> None:
        """See whether a newcomer is let in and served."""
        self._watched(lambda: self.zone.advance(2000), "2000 s of waiting")
        self.compare()
        newcomer = FuzzPeer(self, "192.0.2.90", "g0", 1)
        self.peers.append(newcomer)
        try:
            answers = [newcomer.register()[0], newcomer.admit(b"new!" * 4)[0]]
        except (Unanswered, AssertionError) as error:
            answers = [repr(error)]
        if answers != ["registrationConfirm", "admissionConfirm"]:
            self.report.findings.append(f"a guardian who comes afterwards gets {answers}")


def fuzz(*, seconds: float, seed: int, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Go on for so long; a seed gives the same inputs again."""
    rng = random.Random(seed)
    report = Report()
    seeds = [octets for name, octets in captured() if name == RAS[0]]
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(report.findings) < 10:
        Life(rng, report, list(seeds)).live()
        progress(report)
    return report
