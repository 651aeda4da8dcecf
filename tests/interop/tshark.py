"""A second opinion on what goes over the wire: Wireshark's dissector, which shares no code with ours."""

from __future__ import annotations

import csv
import ipaddress
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import dpkt

from gatekeeperd.core.actions import TransportAddress

#: LINKTYPE_RAW: IP packets without a link layer.
_RAW_IP: Final = 101
#: PI_ERROR in Wireshark's epan/proto.h. Below are warnings and notes.
_ERROR: Final = 0x00800000
_FIELDS: Final = (
    "h225.RasMessage",
    "_ws.col.Info",
    "h225.requestSeqNum",
    "_ws.expert.severity",
    "_ws.expert.message",
    "_ws.malformed",
)


@dataclass(frozen=True)
class Datagram:
    """One datagram as it was sent or received; ``at`` in POSIX seconds."""

    at: float
    source: TransportAddress
    destination: TransportAddress
    data: bytes


@dataclass(frozen=True)
class Dissected:
    """What tshark makes of one datagram: its name for the message, its requestSeqNum, and its complaints."""

    name: str
    request_seq_num: str
    complaints: tuple[str, ...]


@dataclass
class Recorder:
    """A tap that keeps every datagram, in the order in which the peers sent and received them."""

    datagrams: list[Datagram] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, source: TransportAddress, destination: TransportAddress, data: bytes) -> None:
        with self._lock:
            self.datagrams.append(Datagram(time.time(), source, destination, data))


def write_pcap(path: Path, datagrams: Sequence[Datagram]) -> None:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=_RAW_IP)
        for datagram in datagrams:
            writer.writepkt(_packet(datagram), datagram.at)


def dissect(path: Path, ports: set[int]) -> list[Dissected]:
    """Have tshark dissect a capture whose RAS ports are ``ports``: one result a datagram.

    Raises FileNotFoundError where there is no tshark: what was not looked at has not passed.
    """
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=,", "-E", "quote=d", "-E", "aggregator=|"]
    command += [argument for name in _FIELDS for argument in ("-e", name)]
    command += [argument for port in sorted(ports) for argument in ("-d", f"udp.port=={port},h225")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [_dissected(row) for row in csv.reader(done.stdout.splitlines())]


def _dissected(row: list[str]) -> Dissected:
    choice, info, sequence, severities, messages, malformed = row
    found = zip(severities.split("|"), messages.split("|"), strict=False)
    complaints = [message for severity, message in found if severity and int(severity) >= _ERROR]
    if malformed:
        complaints.append("malformed")
    if not choice:
        complaints.append(f"no RAS message: {info}")
    return Dissected(info.removeprefix("RAS: ").split()[0], sequence, tuple(complaints))


def _packet(datagram: Datagram) -> bytes:
    udp = dpkt.udp.UDP(sport=datagram.source[1], dport=datagram.destination[1], data=datagram.data)
    udp.ulen = len(udp)
    source, destination = (ipaddress.ip_address(host) for host, _ in (datagram.source, datagram.destination))
    addresses = {"src": source.packed, "dst": destination.packed}
    if source.version == 6:
        packet = dpkt.ip6.IP6(**addresses, nxt=dpkt.ip.IP_PROTO_UDP, hlim=64, plen=len(udp), data=udp)
        packet.extension_hdrs = {}
    else:
        packet = dpkt.ip.IP(**addresses, p=dpkt.ip.IP_PROTO_UDP, ttl=64, data=udp)
        packet.len = len(packet)
    return bytes(packet)
