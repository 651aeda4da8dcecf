"""From frames to transport: UDP datagrams and TCP segments, whatever link layer was captured.

What lives here: link types, VLAN tags, IPv4 and IPv6 with their fragments. What never does: TCP's order (``streams``),
and any H.323. dpkt reads the headers; this module decides which and keeps what it needs of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dpkt

from gatekeeperd.capture.files import Frame
from gatekeeperd.core.actions import TransportAddress

#: IP datagrams whose fragments are collected at the same time; the oldest goes when one more begins.
MAX_FRAGMENTED: Final = 64

_ETHERNET: Final = 1
_LOOPBACK: Final = frozenset({0, 108})  # BSD: the address family in the host's or in network byte order
_RAW: Final = frozenset({12, 14, 101, 228, 229})
_COOKED: Final = 113
_COOKED_2: Final = 276
_TCP, _UDP = 6, 17
_UDP_HEADER: Final = 8
# What dpkt lets through besides its own errors when octets end where a header goes on.
_BAD_HEADER: Final = (dpkt.Error, IndexError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Datagram:
    """The payload of a UDP datagram; ``missing`` octets at its end were not captured."""

    frame: int
    time: float
    source: TransportAddress
    destination: TransportAddress
    octets: bytes
    missing: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment; ``missing`` octets at the end of its payload were not captured."""

    frame: int
    time: float
    source: TransportAddress
    destination: TransportAddress
    sequence: int
    octets: bytes
    missing: int
    begins: bool


@dataclass(slots=True)
class _Fragments:
    parts: dict[int, bytes]
    total: int | None = None


class PacketReader:
    """Turns frames into datagrams and segments. Keeps the fragments of at most ``MAX_FRAGMENTED`` datagrams."""

    def __init__(self) -> None:
        self._fragmented: dict[tuple[bytes, bytes, int, int], _Fragments] = {}
        self.unread = 0

    def read(self, frame: Frame) -> Datagram | Segment | None:
        """Give what the frame holds, or completes; ``None`` where it is neither UDP nor TCP over IP.

        ``unread`` counts the frames of a link type that this does not know and those whose headers are damaged.
        """
        try:
            packet = _network_layer(frame)
            if isinstance(packet, dpkt.ip.IP):
                return self._ipv4(frame, packet)
            if isinstance(packet, dpkt.ip6.IP6):
                return self._ipv6(frame, packet)
        except _BAD_HEADER:
            self.unread += 1
        return None

    def _ipv4(self, frame: Frame, packet: dpkt.ip.IP) -> Datagram | Segment | None:
        payload = bytes(packet.data)
        if packet.mf or packet.offset:
            key = (packet.src, packet.dst, packet.p, packet.id)
            whole = self._defragment(key, packet.offset * 8, payload, more=bool(packet.mf))
            return None if whole is None else _transport(frame, packet.p, _addresses(packet), whole, 0)
        expected = packet.len - packet.hl * 4 if packet.len else len(payload)
        return _transport(frame, packet.p, _addresses(packet), payload, max(0, expected - len(payload)))

    def _ipv6(self, frame: Frame, packet: dpkt.ip6.IP6) -> Datagram | Segment | None:
        payload = bytes(packet.data)
        extensions = packet.all_extension_headers
        for extension in extensions:
            if isinstance(extension, dpkt.ip6.IP6FragmentHeader):
                key = (packet.src, packet.dst, extension.nxt, extension.id)
                whole = self._defragment(key, extension.frag_off * 8, payload, more=bool(extension.m_flag))
                return None if whole is None else _transport(frame, extension.nxt, _addresses(packet), whole, 0)
        expected = packet.plen - sum(extension.length for extension in extensions) if packet.plen else len(payload)
        return _transport(frame, packet.p, _addresses(packet), payload, max(0, expected - len(payload)))

    def _defragment(self, key: tuple[bytes, bytes, int, int], offset: int, payload: bytes, *, more: bool) -> bytes | None:
        """Keep one fragment, give the whole when it is there. Overlapping fragments (an attack's mark) never are."""
        if key not in self._fragmented and len(self._fragmented) == MAX_FRAGMENTED:
            del self._fragmented[next(iter(self._fragmented))]
        fragments = self._fragmented.setdefault(key, _Fragments({}))
        fragments.parts[offset] = payload
        if not more:
            fragments.total = offset + len(payload)
        whole = bytearray()
        for start in sorted(fragments.parts):
            if start != len(whole):
                return None
            whole += fragments.parts[start]
        if len(whole) != fragments.total:
            return None
        del self._fragmented[key]
        return bytes(whole)


def _network_layer(frame: Frame) -> object:
    if frame.link_type == _ETHERNET:
        return dpkt.ethernet.Ethernet(frame.octets).data
    if frame.link_type == _COOKED:
        return dpkt.sll.SLL(frame.octets).data
    if frame.link_type == _COOKED_2:
        return dpkt.sll2.SLL2(frame.octets).data
    if frame.link_type in _LOOPBACK:
        return dpkt.loopback.Loopback(frame.octets).data
    if frame.link_type in _RAW:
        return (dpkt.ip6.IP6 if frame.octets[0] >> 4 == 6 else dpkt.ip.IP)(frame.octets)
    raise ValueError(f"link type {frame.link_type}")


def _transport(
    frame: Frame, protocol: int, addresses: tuple[str, str], payload: bytes, missing: int
) -> Datagram | Segment | None:
    source, destination = addresses
    if protocol == _UDP:
        udp = dpkt.udp.UDP(payload)
        octets = bytes(udp.data)
        # A length of 0 comes of offloading: then the datagram is what there is.
        length = udp.ulen - _UDP_HEADER if udp.ulen else len(octets)
        missing = max(0, length - len(octets))
        return Datagram(frame.number, frame.time, (source, udp.sport), (destination, udp.dport), octets[:length], missing)
    if protocol == _TCP:
        tcp = dpkt.tcp.TCP(payload)
        return Segment(
            frame.number,
            frame.time,
            (source, tcp.sport),
            (destination, tcp.dport),
            tcp.seq,
            bytes(tcp.data),
            missing,
            begins=bool(tcp.flags & dpkt.tcp.TH_SYN),
        )
    return None


def _addresses(packet: dpkt.ip.IP | dpkt.ip6.IP6) -> tuple[str, str]:
    return str(ip_address(packet.src)), str(ip_address(packet.dst))
