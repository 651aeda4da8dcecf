"""Every datagram of the demo's terminals, as they sent and received it.

What lives here: the record in memory, waiting for a datagram, and a capture file of it. What never does: meaning.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import dpkt

from gatekeeperd.core.actions import TransportAddress

# Loopback has no link addresses; locally administered ones stand in, because every tool reads Ethernet.
_LINK = {"src": b"\x02\0\0\0\0\x01", "dst": b"\x02\0\0\0\0\x02"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One datagram; ``time`` is POSIX seconds."""

    time: float
    source: TransportAddress
    destination: TransportAddress
    data: bytes


@dataclass(slots=True)
class Recorder:
    """A tap (:data:`gatekeeperd.terminal.udp.Tap`) for all terminals of a run."""

    frames: list[Frame] = field(default_factory=list)
    _waiting: dict[TransportAddress, asyncio.Future[bytes]] = field(default_factory=dict)

    def __call__(self, source: TransportAddress, destination: TransportAddress, data: bytes) -> None:
        """Note one datagram."""
        self.frames.append(Frame(time.time(), source, destination, data))
        waiting = self._waiting.pop(destination, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(data)

    def next_to(self, destination: TransportAddress) -> asyncio.Future[bytes]:
        """Return the next datagram to ``destination``, once it comes."""
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[destination] = waiting
        return waiting

    def save(self, path: Path) -> None:
        """Write a pcap file of it, as if it had been captured on an Ethernet."""
        with path.open("wb") as file:
            writer = dpkt.pcap.Writer(file)
            for frame in self.frames:
                writer.writepkt(_ethernet(frame), frame.time)


def _ethernet(frame: Frame) -> bytes:
    udp = dpkt.udp.UDP(sport=frame.source[1], dport=frame.destination[1], data=frame.data)
    udp.ulen = len(udp)
    addresses = {"src": IPv4Address(frame.source[0]).packed, "dst": IPv4Address(frame.destination[0]).packed}
    ip = dpkt.ip.IP(**addresses, p=dpkt.ip.IP_PROTO_UDP, ttl=64, data=udp)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(**_LINK, type=dpkt.ethernet.ETH_TYPE_IP, data=ip))
