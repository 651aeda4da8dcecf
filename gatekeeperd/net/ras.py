"""The UDP sockets of RAS.

What lives here: binding, multicast, draining and sending of datagrams, with a count of whatever goes wrong. What never
does: looking into a datagram, or raising because of one.

A socket is drained by ``add_reader`` and ``recvfrom`` rather than by a ``DatagramProtocol``: on uvloop that costs 6 us
of processor time a request against 9 us under load (receive and answer; loopback), as several datagrams share a wakeup.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final

from gatekeeperd.core.actions import Send, TransportAddress
from gatekeeperd.errors import ConfigurationError

#: H.225.0 v7 section 7.2: the gatekeeper discovery multicast address and port.
DISCOVERY_GROUP: Final = ("224.0.1.41", 1718)
#: Where endpoints ask that know no multicast (h323plus does); bound to it, a socket hears nothing but broadcasts.
DISCOVERY_BROADCAST: Final = ("255.255.255.255", 1718)
#: The largest RAS message in any capture of ours has 1.1 KiB; one of 8 KiB is an attack or a mistake.
MAX_DATAGRAM: Final = 8192
#: Datagrams taken in one wakeup: enough to amortise it, few enough that timers and HTTPS get their turn within 2 ms.
BURST: Final = 16

_log = logging.getLogger(__name__)

#: What is done with a datagram: its octets, its source, and whether it came by multicast.
Receiver = Callable[[bytes, TransportAddress, bool], None]


class RasSockets:
    """One RAS socket for each address family, and where the IPv4 interface allows it those of discovery: group and broadcast.

    ``faults`` counts by name what was dropped or could not be sent: ``oversized``, ``receive_failed``, ``send_failed``.
    """

    def __init__(self, hosts: tuple[str, ...], port: int, *, multicast: bool, receive_buffer_octets: int) -> None:
        self.faults: Counter[str] = Counter()
        self.multicast: tuple[TransportAddress, ...] = ()
        self._by_ipv6: dict[bool, socket.socket] = {}
        self._discovery: list[socket.socket] = []
        try:
            for host in hosts:
                # The second family follows the first where the kernel chose the port.
                chosen = port or next((bound.getsockname()[1] for bound in self._by_ipv6.values()), 0)
                self._by_ipv6[":" in host] = _bind((host, chosen), receive_buffer_octets)
        except ConfigurationError:
            self.close()
            raise
        ipv4 = next((host for host in hosts if ":" not in host), None)
        if multicast and ipv4 is not None:
            found = ((DISCOVERY_GROUP, _join(ipv4)), (DISCOVERY_BROADCAST, _hear(DISCOVERY_BROADCAST)))
            self._discovery = [bound for _, bound in found if bound is not None]
            self.multicast = tuple(address for address, bound in found if bound is not None)

    @property
    def addresses(self) -> tuple[TransportAddress, ...]:
        """The bound unicast addresses, as terminals are told them."""
        return tuple((name[0], name[1]) for name in (bound.getsockname() for bound in self._by_ipv6.values()))

    def listen(self, loop: asyncio.AbstractEventLoop, receive: Receiver, after_burst: Callable[[], None]) -> None:
        """Deliver each datagram to ``receive``; ``after_burst`` runs once a wakeup (to re-arm timers)."""
        for bound in self._by_ipv6.values():
            loop.add_reader(bound, self._drain, bound, receive, after_burst, False)  # noqa: FBT003
        for bound in self._discovery:
            loop.add_reader(bound, self._drain, bound, receive, after_burst, True)  # noqa: FBT003

    def send(self, message: Send) -> None:
        """Send one datagram from the socket of its family. Never raises: an unreachable peer is counted."""
        host, _ = message.to
        try:
            self._by_ipv6[":" in host].sendto(message.data, message.to)
        except (OSError, KeyError, OverflowError) as error:
            self.faults["send_failed"] += 1
            _log.debug("can't send to %s: %s", message.to, error)

    def stop_listening(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take no more datagrams; sending goes on until :meth:`close`."""
        for bound in self._sockets():
            loop.remove_reader(bound)

    def close(self) -> None:
        """Close the sockets. They are no longer listened to."""
        for bound in self._sockets():
            bound.close()

    def _sockets(self) -> tuple[socket.socket, ...]:
        return (*self._by_ipv6.values(), *self._discovery)

    def _drain(self, bound: socket.socket, receive: Receiver, after_burst: Callable[[], None], multicast: bool) -> None:  # noqa: FBT001
        recvfrom = bound.recvfrom
        try:
            for _ in range(BURST):
                data, source = recvfrom(MAX_DATAGRAM + 1)
                if len(data) > MAX_DATAGRAM:
                    self.faults["oversized"] += 1
                    continue
                receive(data, (source[0], source[1]), multicast)
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP error of an earlier send may surface here; the next wakeup goes on with the next datagram.
            self.faults["receive_failed"] += 1
            _log.debug("receiving failed: %s", error)
        finally:
            after_burst()


def _bind(address: TransportAddress, receive_buffer_octets: int) -> socket.socket:
    ipv6 = ":" in address[0]
    bound = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if ipv6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_octets)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigurationError(f"can't bind UDP {address[0]} port {address[1]}: {error.strerror}", field="ras.bind") from error
    return bound


def _join(interface: str) -> socket.socket | None:
    """Join the discovery group on the interface that has the address, or say why that is impossible."""
    host, port = DISCOVERY_GROUP
    group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        # Several gatekeepers of one machine all answer a multicast GRQ.
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Without this a socket bound to the group hears it from every interface that anyone joined it on.
        group.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        group.bind((host, port))
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(host) + socket.inet_aton(interface))
    except OSError as error:
        group.close()
        _log.warning("no multicast discovery on %s: %s", interface, error.strerror)
        return None
    return group


def _hear(address: TransportAddress) -> socket.socket | None:
    """Bind a socket that hears limited broadcasts, or say why that is impossible."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        _log.warning("no discovery by broadcast: %s", error.strerror)
        return None
    return bound


#: <linux/in.h>; the socket module has no name for it.
_IP_MULTICAST_ALL: Final = 49
