"""One guardian's place in the demo: its terminal, and what the screen shows of it.

What lives here: the terminal with its event log. What never does: the plot (``acts``) and drawing (``screen``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.demo.council import Member
from gatekeeperd.demo.daemon import Daemon
from gatekeeperd.demo.recorder import Recorder
from gatekeeperd.errors import TerminalError
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.terminal.events import (
    Admitted,
    Discovered,
    Disengaged,
    Event,
    KeptAlive,
    Registered,
    RoundTrip,
    Unregistered,
)
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.terminal.udp import Terminal

_CALL_SIGNAL_PORT = 1720


class Replayer(Terminal):
    """A terminal whose socket an attacker could use too."""

    def send_as_is(self, data: bytes, to: TransportAddress) -> None:
        """Send octets that the endpoint knows nothing of."""
        if self._transport is None:
            raise TerminalError("the terminal is closed")
        self._transport.sendto(data, to)


@dataclass(slots=True)
class Seat:
    """A member and its terminal. ``latest_ms`` is the last round trip by kind: GRQ, RRQ, ARQ, keepAlive."""

    member: Member
    terminal: Replayer | None = None
    registered: bool = False
    call: str | None = None
    bandwidth_bps: int = 0
    latest_ms: dict[str, float] = field(default_factory=dict)
    last_ms: float | None = None

    @property
    def at(self) -> Replayer:
        """The terminal.

        Raises:
            TerminalError: it is not open.

        """
        if self.terminal is None:
            raise TerminalError(f"{self.member.alias} has no terminal")
        return self.terminal

    @property
    def address(self) -> TransportAddress | None:
        """Where the terminal's socket is bound."""
        return None if self.terminal is None else self.terminal.endpoint.settings.ras_address

    async def open(self, daemon: Daemon, tap: Recorder, hear: Callable[[Event], None], *, key: KeyPair | None = None) -> None:
        """Open the terminal; ``key`` in place of the member's own makes it an impostor's."""

        def note(event: Event) -> None:
            self._note(event)
            hear(event)

        settings = EndpointSettings(
            terminal_id=self.member.guardian.terminal_id,
            key=key or self.member.key,
            service_keys=(daemon.service_key,),
            gatekeepers=(daemon.ras,),
            ras_address=(self.member.host, 0),
            call_signal_address=(self.member.host, _CALL_SIGNAL_PORT),
            aliases=(self.member.alias,),
        )
        self.terminal = await Replayer.open(settings, on_event=note, tap=tap)

    def close(self) -> None:
        """Close the socket."""
        if self.terminal is not None:
            self.terminal.close()

    def _note(self, event: Event) -> None:
        match event:
            case RoundTrip():
                self.last_ms = event.seconds * 1000
            case Discovered():
                self._took("GRQ")
            case Registered():
                self.registered = True
                self._took("RRQ")
            case Admitted():
                self.call, self.bandwidth_bps = event.call, event.bandwidth_bps
                self._took("ARQ")
            case KeptAlive():
                self._took("keepAlive")
            case Disengaged():
                self.call = None
            case Unregistered():
                self.registered = False

    def _took(self, what: str) -> None:
        """Note that the last round trip was of this kind."""
        if self.last_ms is not None:
            self.latest_ms[what] = self.last_ms
