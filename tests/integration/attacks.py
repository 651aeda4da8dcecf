"""Attacks on a victim's registration, how each is refused, and what must not have changed afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from ras_peer import Peer, Zone
from ras_speaker import Message, reason

A, B, C = b"\x01" * 16, b"\x02" * 16, b"\x03" * 16


class Watch:
    """What changed at a daemon since this was made: counters, witness records, admissions of one guardian."""

    def __init__(self, zone: Zone, terminal_id: str | None = None) -> None:
        zone.settle()
        self._zone = zone
        self._terminal_id = terminal_id
        self._metrics = zone.metrics()
        self._sessions = zone.sessions(terminal_id)
        self._index = zone.last_index()

    def grown(self, name: str) -> int:
        self._zone.settle()
        return int(self._zone.metrics().get(name, 0) - self._metrics.get(name, 0))

    def dropped(self, why: str) -> int:
        return self.grown(f'ras_dropped_total{{reason="{why}"}}')

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return the payloads of new witness records of that event."""
        self._zone.settle()
        return [record["payload"] for record in self._zone.records(event, after=self._index)]

    def nothing_changed(self) -> None:
        self._zone.settle()
        assert self._zone.sessions(self._terminal_id) == self._sessions
        names = ("active_sessions", "registered_endpoints", "bandwidth_in_use_bps")
        metrics = self._zone.metrics()
        assert [metrics[name] for name in names] == [self._metrics[name] for name in names]


def denied(answer: Message, why: str = "INVALID_SIGNATURE") -> None:
    """See that this is how a registration is refused for want of a proof."""
    assert answer[0] == "registrationReject"
    assert answer[1]["rejectReason"] == ("securityDenial", None)
    assert reason(answer) == why


def unbroken(victim: Peer) -> None:
    """See that the victim can go on as if nothing had been."""
    assert victim.rest() == []
    assert victim.ask(victim.keep_alive())[0] == "registrationConfirm"
    assert victim.ask(victim.brq(A, bandwidth=6_000))[0] == "bandwidthConfirm"


#: Every request of a registered endpoint, unproven.
REQUESTS: dict[str, Callable[[Peer], Message]] = {
    "keepAlive": lambda peer: peer.keep_alive(),
    "URQ": lambda peer: peer.urq(),
    "ARQ": lambda peer: peer.arq(B),
    "BRQ": lambda peer: peer.brq(A),
    "DRQ": lambda peer: peer.drq(A),
    "IRR": lambda peer: peer.irr(A, needResponse=True),
    "RAI": lambda peer: peer.rai(low=True),
    "SCI": lambda peer: peer.sci(),
}


def proven(peer: Peer, request: str) -> bytes:
    message = REQUESTS[request](peer)
    return peer.signed(message) if request == "ARQ" else peer.protected(message)


#: The same from another source than the registration's: whether the endpointIdentifier is anybody's is not told there.
MISPLACED = {
    "keepAlive": ("registrationReject", "fullRegistrationRequired", None, "NOT_REGISTERED"),
    "URQ": ("unregistrationReject", "notCurrentlyRegistered", "request.rejected", "INVALID_SIGNATURE"),
    "ARQ": ("admissionReject", "securityDenial", "admission.rejected", "INVALID_SIGNATURE"),
    "BRQ": ("bandwidthReject", "notBound", "request.rejected", "INVALID_SIGNATURE"),
    "DRQ": ("disengageReject", "notRegistered", "request.rejected", "INVALID_SIGNATURE"),
    "IRR": ("infoRequestNak", "notRegistered", None, ""),
    "RAI": (None, None, "request.rejected", "INVALID_SIGNATURE"),
    "SCI": (None, None, "request.rejected", "INVALID_SIGNATURE"),
}

#: What a request without a valid proof is answered, and the witness record of it. RAC and SCR have no "no" of their own.
UNPROVEN = {
    "keepAlive": ("registrationReject", "securityDenial", "registration.rejected"),
    "URQ": ("unregistrationReject", "securityDenial", "request.rejected"),
    "ARQ": ("admissionReject", "securityDenial", "admission.rejected"),
    "BRQ": ("bandwidthReject", "securityDenial", "request.rejected"),
    "DRQ": ("disengageReject", "securityDenial", "request.rejected"),
    "IRR": ("infoRequestNak", "securityDenial", None),
    "RAI": (None, None, "request.rejected"),
    "SCI": (None, None, "request.rejected"),
}


def refused(zone: Zone, sender: Peer, pdu: bytes, expected: tuple[str | None, str | None, str | None], why: str) -> None:
    """Send, and see that it is refused in that way, recorded, and without effect."""
    name, choice, event = expected
    watch = Watch(zone)
    sender.say(pdu)
    zone.settle()
    answers = sender.rest()
    if name is None:
        assert answers == []
        assert watch.dropped("unauthenticated") == 1
    else:
        (answer,) = answers
        assert answer[0] == name
        assert answer[1]["nakReason" if name == "infoRequestNak" else "rejectReason"] == (choice, None)
        if name != "infoRequestNak":
            assert reason(answer) == why
    if event is not None:
        assert [told["reason"] for told in watch.told(event)] == [why]
    watch.nothing_changed()


def skewed(skew: int) -> int:
    """Return a time stamp that is too far off, and still is when it arrives a few seconds later than planned."""
    return math.ceil(time.time()) + skew + 5 if skew > 0 else int(time.time()) + skew
