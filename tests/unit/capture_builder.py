"""Synthetic captures out of dpkt's packets, for what no recorded file shows."""

import io
import ipaddress
from pathlib import Path

import dpkt

from gatekeeperd.wire import tpkt

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"

# What each recorded capture holds: RAS, Q.931, H.225, H.245 (on its own connection or tunnelled), fastStart; UDP
# datagrams of media beside them. tshark 4.0 counts the same RAS, Q.931 and H.245 messages.
RECORDED = {
    "01-ras-discovery-register-keepalive-unregister": (32, 0, 0, 0, 0, 0),
    "02-direct-call-tunneled": (23, 14, 14, 14, 0, 254),
    "03-direct-alerting-answer-separate-h245": (20, 6, 6, 14, 0, 154),
    "04-direct-faststart": (20, 5, 5, 0, 6, 154),
    "05-direct-callee-rejects": (20, 5, 5, 0, 0, 0),
    "06-direct-h245-in-setup": (20, 8, 8, 11, 6, 154),
    "09-ttl-expiry-irq-urq": (6, 0, 0, 0, 0, 0),
    "10-routed-tunneled": (20, 31, 31, 31, 0, 236),
    "11-routed-h245routed-separate": (20, 11, 11, 28, 0, 150),
    "14-routed-caller-cancels-while-ringing": (20, 9, 9, 0, 0, 0),
    "17-neighbour-lrq-lcf-rip-call": (30, 14, 14, 14, 0, 190),
    "20-auth-md5-direct": (20, 14, 14, 14, 0, 156),
    "22-auth-cat-direct": (20, 14, 14, 14, 0, 156),
    "25-auth-wrong-password-rrj": (8, 0, 0, 0, 0, 0),
}

ALICE, BOB = ("10.0.0.5", 40000), ("10.0.0.9", 1720)
ALICE6, BOB6 = ("2001:db8::5", 40000), ("2001:db8::9", 1720)


def octets(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ip(source, destination, protocol, transport, **fields) -> bytes:
    """An IPv4 or IPv6 packet, as the addresses want it."""
    src, dst = octets(source[0]), octets(destination[0])
    if ":" in source[0]:
        return bytes(dpkt.ip6.IP6(src=src, dst=dst, nxt=protocol, plen=len(transport), hlim=64, data=transport))
    return bytes(dpkt.ip.IP(src=src, dst=dst, p=protocol, len=20 + len(transport), data=transport, **fields))


def udp_header_and(source, destination, payload) -> bytes:
    return bytes(dpkt.udp.UDP(sport=source[1], dport=destination[1], ulen=8 + len(payload), data=payload))


def udp(source, destination, payload) -> bytes:
    return ip(source, destination, 17, udp_header_and(source, destination, payload))


def tcp(source, destination, sequence, payload=b"", *, syn=False) -> bytes:
    flags = dpkt.tcp.TH_SYN if syn else dpkt.tcp.TH_ACK | dpkt.tcp.TH_PUSH
    return ip(
        source,
        destination,
        6,
        bytes(dpkt.tcp.TCP(sport=source[1], dport=destination[1], seq=sequence % 2**32, flags=flags, data=payload)),
    )


def ethernet(packet: bytes, *, vlans: tuple[int, ...] = ()) -> bytes:
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    tags = b"".join(b"\x81\x00" + vlan.to_bytes(2, "big") for vlan in vlans)
    return b"\x02" * 6 + b"\x04" * 6 + tags + kind + packet


def pcap(packets, *, link_type=101, nano=False) -> bytes:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file, snaplen=262144, linktype=link_type, nano=nano)
    for number, packet in enumerate(packets):
        writer.writepkt(packet, 1_700_000_000 + number / 4)
    return file.getvalue()


def write(path: Path, packets, **options) -> Path:
    path.write_bytes(pcap(packets, **options))
    return path


def setup_packets(payloads, source=ALICE, destination=BOB, sequence=1000):
    """One direction of a connection: SYN, then each payload in a TPKT in a segment of its own."""
    packets = [tcp(source, destination, sequence, syn=True)]
    at = sequence + 1
    for payload in payloads:
        packets.append(tcp(source, destination, at, tpkt.encode(payload)))
        at += len(payload) + tpkt.HEADER_LENGTH
    return packets
