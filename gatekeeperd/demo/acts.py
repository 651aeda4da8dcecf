"""The plot of the demo, act by act, over real sockets against a real daemon.

What lives here: who does what in which order, and what has to come of it. What never does: drawing and figures.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nacl.signing import VerifyKey

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.demo import tampering
from gatekeeperd.demo.council import ROOM, Member, convene, member
from gatekeeperd.demo.daemon import Daemon, running
from gatekeeperd.demo.recorder import Recorder
from gatekeeperd.demo.results import Attempt, Results
from gatekeeperd.demo.screen import Screen
from gatekeeperd.demo.seat import Seat
from gatekeeperd.errors import DecodeError
from gatekeeperd.policy.registry_edit import write_registry
from gatekeeperd.security.credential import CallType
from gatekeeperd.security.keys import KeyPair, parse_public_key
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.events import Admitted, KeptAlive, Refused, Registered, RegistrationRefused
from gatekeeperd.terminal.messages import refusal
from gatekeeperd.wire.h225 import decode_ras

_EIGHT = 8
_CAPACITY = 25
_EIGHT_BPS = 2_000_000
_OTHERS_BPS = 1_000_000
_OVER_QUOTA_BPS = 1_200_000

#: Loopback addresses of those who do not belong.
_STRANGER, _IMPOSTOR, _EAVESDROPPER = "127.0.0.101", "127.0.0.102", "127.0.0.103"
_ANSWER_S = 1.0

_SILENCE = "no answer"

#: Parts of an earlier run that this one replaces.
_OURS = ("state", "tampered")


class Play:
    """One run. ``results`` and ``recorder`` can be read afterwards, also when it was broken off."""

    def __init__(self, directory: Path, screen: Screen, results: Results) -> None:
        self.results = results
        self.recorder = Recorder()
        self._directory = directory
        self._screen = screen
        self._members = convene()
        self._seats: list[Seat] = []

    async def run(self) -> None:
        """Play all acts.

        Raises:
            GuardianError: something stood in the way: no daemon, no socket, no log.

        """
        self._directory.mkdir(parents=True, exist_ok=True)
        for name in _OURS:
            shutil.rmtree(self._directory / name, ignore_errors=True)
        registry = self._directory / "guardian-registry.yaml"
        write_registry(registry, [each.guardian for each in self._members])
        async with running(registry, self._directory / "state", self._directory / "gatekeeperd.log") as daemon:
            self._screen.title(daemon)
            try:
                await self._with(daemon)
            finally:
                for seat in self._seats:
                    seat.close()
        self._verify(daemon.witness, daemon.state / "node.pub")

    async def _with(self, daemon: Daemon) -> None:
        eight = [await self._take_seat(daemon, each) for each in self._members[:_EIGHT]]
        self._screen.act("Eight guardians discover, register and are admitted")
        with self._screen.council(eight):
            await self._register(eight)
            self.results.requested = len(eight)
            await self._admit(eight, _EIGHT_BPS)
            self.results.admitted = sum(seat.call is not None for seat in eight)
            await self._keep_alive(eight)

        self._screen.act("Those who must not get in")
        others = [await self._take_seat(daemon, each) for each in self._members[_EIGHT:]]
        await self._register(others)
        await self._impostor(daemon, eight[0])
        await self._stranger(daemon)
        await self._personal_data(others[0])
        await self._over_quota(others[1])
        await self._replay(daemon, eight[0])
        await self._one_too_many(others)
        self._screen.attempts(self.results.attempts)

        self._screen.act("The council rises")
        await self._rise(daemon, [*eight, *others])

    # Good business

    async def _take_seat(self, daemon: Daemon, who: Member, *, key: KeyPair | None = None) -> Seat:
        seat = Seat(who)
        self._seats.append(seat)
        await seat.open(daemon, self.recorder, self.results.note, key=key)
        return seat

    # One after the other: all terminals share this process, and a crowd would measure its own queue.

    async def _register(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            answer = await seat.at.discover_and_register()
            self.results.expect(f"{seat.member.alias} registers: {answer}", holds=isinstance(answer, Registered))

    async def _admit(self, seats: Iterable[Seat], bandwidth_bps: int) -> None:
        for seat in seats:
            answer = await seat.at.admit(CallRequest(destination=ROOM, bandwidth_bps=bandwidth_bps))
            self.results.expect(f"{seat.member.alias} is admitted: {answer}", holds=isinstance(answer, Admitted))

    async def _keep_alive(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            answer = await seat.at.keep_alive()
            self.results.expect(f"{seat.member.alias} is kept alive: {answer}", holds=isinstance(answer, KeptAlive))

    async def _rise(self, daemon: Daemon, seats: list[Seat]) -> None:
        sitting = 0
        for seat in seats:
            if seat.call is not None:
                await seat.at.disengage(seat.call)
                sitting += 1
        left = await daemon.sessions()
        self.results.expect(f"{len(left)} sessions are left", holds=not left)
        for seat in seats:
            await seat.at.unregister()
        self._screen.say(f"{sitting} participants disengaged, {len(left)} sessions left, {len(seats)} guardians unregistered")

    # Refusals

    async def _impostor(self, daemon: Daemon, victim: Seat) -> None:
        """Register as a guardian with a key that is not the guardian's."""
        seat = await self._take_seat(daemon, replace(victim.member, host=_IMPOSTOR), key=KeyPair.generate())
        answer = await seat.at.discover_and_register()
        unharmed = isinstance(await victim.at.keep_alive(), KeptAlive)
        evidence = f"the true {victim.member.alias} is still registered" if unharmed else "the true guardian was put out"
        self.results.expect(evidence, holds=unharmed)
        self._refused("a forged signature", _IMPOSTOR, "INVALID_SIGNATURE", answer, seat, evidence)

    async def _stranger(self, daemon: Daemon) -> None:
        """Register as somebody whom the registry does not know."""
        seat = await self._take_seat(daemon, member("U-01", "unheard-of", _OTHERS_BPS, host=_STRANGER))
        answer = await seat.at.discover_and_register()
        self._refused("an unknown guardian", _STRANGER, "NOT_REGISTERED", answer, seat)

    async def _personal_data(self, seat: Seat) -> None:
        request = CallRequest(destination=ROOM, bandwidth_bps=_OTHERS_BPS, call_type=CallType.ESCALATE, has_pii=True)
        answer = await seat.at.admit(request)
        self._refused("personal data in ESCALATE", seat.member.alias, "PII_POLICY_VIOLATION", answer, seat)

    async def _over_quota(self, seat: Seat) -> None:
        answer = await seat.at.admit(CallRequest(destination=ROOM, bandwidth_bps=_OVER_QUOTA_BPS))
        self._refused("more than its quota", seat.member.alias, "BANDWIDTH_EXCEEDED", answer, seat)

    async def _one_too_many(self, others: list[Seat]) -> None:
        """Fill the room, with little bandwidth each so that the total is not what gives out first; then ask once more."""
        await self._admit(others[: _CAPACITY - _EIGHT], _OTHERS_BPS)
        last = others[_CAPACITY - _EIGHT]
        answer = await last.at.admit(CallRequest(destination=ROOM, bandwidth_bps=_OTHERS_BPS))
        self._refused("a 26th participant", last.member.alias, "CAPACITY_EXCEEDED", answer, last)

    def _refused(self, what: str, who: str, expected: str, answer: Any, seat: Seat, evidence: str = "") -> None:
        match answer:
            case RegistrationRefused() | Refused():
                actual, detail = answer.reason, answer.detail
            case _:
                actual, detail = type(answer).__name__, ""
        self.results.attempts.append(Attempt(what, who, expected, actual, evidence or detail, seat.last_ms))

    async def _replay(self, daemon: Daemon, victim: Seat) -> None:
        """Send a guardian's captured ARQ again, from an outsider's socket and from its own; nothing may change."""
        request, answer = self._captured(victim.at.endpoint.settings.ras_address)
        before = await daemon.sessions()
        started = time.perf_counter()
        outsiders = await self._ask(request, daemon.ras)
        took_ms = (time.perf_counter() - started) * 1000
        waiting = self.recorder.next_to(victim.at.endpoint.settings.ras_address)
        victim.at.send_as_is(request, daemon.ras)
        own = await _in_time(waiting)
        unchanged = _facts(before) == _facts(await daemon.sessions())
        harmless = own in (answer, None) and unchanged
        refused = harmless and outsiders in ("INVALID_SIGNATURE", _SILENCE)
        self.results.rejections["replayed"] += refused
        evidence = (
            f"{len(before)} sessions before and after; from {victim.member.alias}'s own socket {_describe(own, answer)}"
            if unchanged
            else "the sessions are not the same as before"
        )
        # A gatekeeper may as well say nothing to somebody whom it does not know.
        expected = _SILENCE if outsiders == _SILENCE and harmless else "INVALID_SIGNATURE"
        actual = outsiders if harmless else "harm"
        self.results.attempts.append(Attempt("a captured ARQ replayed", _EAVESDROPPER, expected, actual, evidence, took_ms))

    def _captured(self, terminal: TransportAddress) -> tuple[bytes, bytes]:
        """Return the octets of a terminal's ARQ and of its ACF, as they were seen on the wire."""
        request = next(
            frame.data
            for frame in self.recorder.frames
            if frame.source == terminal and decode_ras(frame.data)[0] == "admissionRequest"
        )
        answer = next(
            frame.data
            for frame in self.recorder.frames
            if frame.destination == terminal and decode_ras(frame.data)[0] == "admissionConfirm"
        )
        return request, answer

    async def _ask(self, data: bytes, to: TransportAddress) -> str:
        """Send octets from a socket of nobody's and return the reason of the refusal that comes back."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # noqa: FBT003  socket takes it no other way
            sock.bind((_EAVESDROPPER, 0))
            self.recorder(sock.getsockname(), to, data)
            await loop.sock_sendto(sock, data, to)
            try:
                async with asyncio.timeout(_ANSWER_S):
                    octets = await loop.sock_recv(sock, 65_535)
            except TimeoutError:
                return _SILENCE
            self.recorder(to, sock.getsockname(), octets)
        try:
            name, fields = decode_ras(octets)
        except DecodeError:
            return "an answer that can't be read"
        return refusal(fields)[0] if name == "admissionReject" else name

    # The log

    def _verify(self, log: Path, public_key: Path) -> None:
        self._screen.act("The witness log")
        key = VerifyKey(parse_public_key(public_key.read_text(encoding="ascii")))
        report = tampering.check(log, key)
        self.results.witness_records, self.results.witness_verified = report.records, report.verified
        state = "verified" if report.verified else "does NOT verify"
        self._screen.say(f"{report.records} records in one hash chain, {report.checkpoints} signed checkpoints: {state}")
        copies = self._directory / "tampered"
        self.results.tampering.extend(tampering.tamper(log, copies, key))
        self._screen.tampering(self.results.tampering)


async def _in_time(waiting: asyncio.Future[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await waiting
    except TimeoutError:
        return None


def _describe(answer: bytes | None, before: bytes) -> str:
    if answer is None:
        return "no answer at all"
    return "the old answer again" if answer == before else "another answer than before"


def _facts(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return sessions without how long they have lasted."""
    return [{name: value for name, value in session.items() if name != "started_s"} for session in sessions]
