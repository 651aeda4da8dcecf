"""A guardian terminal on a UDP socket: the thin shell around :class:`~gatekeeperd.terminal.endpoint.Endpoint`.

What lives here: a socket, the event loop's clock and timer, and coroutines that await the event they asked for.
What never does: protocol. Whatever happens without being asked for (a DRQ of the gatekeeper, a takeover) goes to
``on_event`` like everything else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Self, cast

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import TerminalError
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.endpoint import Endpoint
from gatekeeperd.terminal.events import (
    Admitted,
    BandwidthChanged,
    BandwidthRefused,
    Disengaged,
    Event,
    KeptAlive,
    Lost,
    Refused,
    Registered,
    RegistrationRefused,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.settings import EndpointSettings

#: Sees each datagram: source, destination, octets.
Tap = Callable[[TransportAddress, TransportAddress, bytes], None]


@dataclass(slots=True)
class _Waiter:
    """A coroutine that waits for one of ``kinds``, about ``call`` where that is not ``None``."""

    kinds: tuple[type, ...]
    call: str | None
    future: asyncio.Future[Any]

    def wants(self, event: Event) -> bool:
        return isinstance(event, self.kinds) and (self.call is None or getattr(event, "call", None) == self.call)


class Terminal(asyncio.DatagramProtocol):
    """One guardian's terminal. Make it with :meth:`open`; KeepAlives, reports and takeovers then run by themselves."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        on_event: Callable[[Event], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.endpoint = Endpoint(settings)
        self._on_event = on_event
        self._tap = tap
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[_Waiter] = []

    @classmethod
    async def open(
        cls,
        settings: EndpointSettings,
        *,
        on_event: Callable[[Event], None] | None = None,
        tap: Tap | None = None,
    ) -> Self:
        """Bind ``settings.ras_address`` and return the terminal, which has sent nothing yet.

        Port 0 is chosen by the kernel, an unspecified host (``0.0.0.0``, ``::``) is replaced in what the gatekeeper is
        told by the address that the route to the first gatekeeper starts from.

        Raises:
            TerminalError: the address can't be bound.

        """
        host, port = settings.ras_address
        if ip_address(host).is_unspecified:
            host = _source_towards(settings.gatekeepers[0])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)  # noqa: FBT003  socket takes it no other way
            sock.bind((settings.ras_address[0], port))
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
        except OSError as error:
            sock.close()
            raise TerminalError(f"can't use {settings.ras_address[0]} port {port}: {error.strerror}") from error
        signal_host, signal_port = settings.call_signal_address
        if ip_address(signal_host).is_unspecified:
            signal_host = host
        settings = replace(settings, ras_address=(host, sock.getsockname()[1]), call_signal_address=(signal_host, signal_port))
        _, terminal = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(settings, on_event=on_event, tap=tap), sock=sock
        )
        return terminal

    def close(self) -> None:
        """Close the socket without a word to the gatekeeper. Who still waits gets a TerminalError."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(TerminalError("the terminal was closed"))
        self._waiters.clear()

    # What the owner asks for

    async def discover_and_register(self) -> Registered | RegistrationRefused | Unreachable:
        """Find a gatekeeper and register; the registration is then kept alive in the background."""
        waiter = self._expect((Registered, RegistrationRefused, Unreachable))
        self.endpoint.start(self._loop.time())
        return cast("Registered | RegistrationRefused | Unreachable", await self._asked(waiter))

    async def admit(self, request: CallRequest) -> Admitted | Refused | Disengaged:
        """Ask for a call. ``Disengaged`` is the answer only where the registration was lost meanwhile."""
        call = self.endpoint.admit(request)
        waiter = self._expect((Admitted, Refused, Disengaged), call)
        return cast("Admitted | Refused | Disengaged", await self._asked(waiter))

    async def change_bandwidth(self, call: str, bandwidth_bps: int) -> BandwidthChanged | BandwidthRefused | Disengaged:
        """Ask for another bandwidth of an admitted call."""
        self.endpoint.change_bandwidth(call, bandwidth_bps)
        waiter = self._expect((BandwidthChanged, BandwidthRefused, Disengaged), call)
        return cast("BandwidthChanged | BandwidthRefused | Disengaged", await self._asked(waiter))

    async def disengage(self, call: str) -> Disengaged:
        """End an admitted call."""
        self.endpoint.disengage(call)
        return cast("Disengaged", await self._asked(self._expect((Disengaged,), call)))

    async def keep_alive(self) -> KeptAlive | Lost | RegistrationRefused | Unregistered:
        """Renew the registration now."""
        self.endpoint.keep_alive()
        waiter = self._expect((KeptAlive, Lost, RegistrationRefused, Unregistered))
        return cast("KeptAlive | Lost | RegistrationRefused | Unregistered", await self._asked(waiter))

    async def unregister(self) -> Unregistered:
        """Leave; calls end with the registration."""
        waiter = self._expect((Unregistered,))
        self.endpoint.unregister()
        return cast("Unregistered", await self._asked(waiter))

    # asyncio.DatagramProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Hand one datagram to the endpoint."""
        now = self._loop.time()
        source = (addr[0], addr[1])
        if self._tap is not None:
            self._tap(source, self.endpoint.settings.ras_address, data)
        self.endpoint.receive_datagram(data, source, now)
        self._pump()

    def error_received(self, exc: Exception) -> None:
        """Do nothing: an ICMP error or a full queue is a lost datagram, and the request is repeated as after any loss."""

    # Helpers

    def _pump(self) -> None:
        """Send what is to be sent, tell what is to be told, and set the timer."""
        if self._transport is None or self._transport.is_closing():
            return
        for send in self.endpoint.datagrams_to_send(self._loop.time()):
            if self._tap is not None:
                self._tap(self.endpoint.settings.ras_address, send.to, send.data)
            self._transport.sendto(send.data, send.to)
        while (event := self.endpoint.next_event()) is not None:
            self._tell(event)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.endpoint.get_timer()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._time_is_up)

    def _time_is_up(self) -> None:
        self.endpoint.handle_timer(self._loop.time())
        self._pump()

    def _tell(self, event: Event) -> None:
        for waiter in [each for each in self._waiters if each.wants(event)]:
            self._waiters.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_result(event)
        if self._on_event is not None:
            self._on_event(event)

    def _expect(self, kinds: tuple[type, ...], call: str | None = None) -> _Waiter:
        waiter = _Waiter(kinds, call, self._loop.create_future())
        self._waiters.append(waiter)
        return waiter

    async def _asked(self, waiter: _Waiter) -> Event:
        self._pump()
        try:
            return cast("Event", await waiter.future)
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)


def _source_towards(gatekeeper: TransportAddress) -> str:
    """Return the local address that datagrams to ``gatekeeper`` leave from."""
    family = socket.AF_INET6 if ":" in gatekeeper[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(gatekeeper)
        except OSError as error:
            raise TerminalError(f"there is no route to {gatekeeper[0]}: {error.strerror}") from error
        host: str = probe.getsockname()[0]
        return host
