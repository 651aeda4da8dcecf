"""Link layers, IP and fragments: the same datagram comes out of each, and no frame raises."""

import struct

import dpkt
import pytest
from capture_builder import ALICE, ALICE6, BOB, BOB6, ethernet, ip, octets, tcp, udp, udp_header_and
from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.capture.files import Frame
from gatekeeperd.capture.packets import MAX_FRAGMENTED, Datagram, PacketReader, Segment

COOKED = struct.pack(">HHH8s", 0, 1, 6, bytes(8))
COOKED_2 = struct.pack(">HIHBB8s", 0, 1, 1, 0, 6, bytes(8))


def read(link_type: int, *frames: bytes, reader: PacketReader | None = None):
    reader = reader or PacketReader()
    return [reader.read(Frame(number, 0.0, link_type, data, 0)) for number, data in enumerate(frames, 1)]


@pytest.mark.parametrize(
    ("link_type", "wrap"),
    [
        pytest.param(1, ethernet, id="ethernet"),
        pytest.param(1, lambda packet: ethernet(packet, vlans=(7,)), id="vlan"),
        pytest.param(1, lambda packet: ethernet(packet, vlans=(7, 8)), id="vlan in vlan"),
        pytest.param(113, lambda packet: COOKED + ethernet(packet)[12:14] + packet, id="cooked"),
        pytest.param(276, lambda packet: ethernet(packet)[12:14] + COOKED_2 + packet, id="cooked 2"),
        pytest.param(0, lambda packet: (2 if packet[0] >> 4 == 4 else 30).to_bytes(4, "little") + packet, id="loopback"),
        pytest.param(108, lambda packet: (2 if packet[0] >> 4 == 4 else 24).to_bytes(4, "big") + packet, id="openbsd loopback"),
        pytest.param(12, lambda packet: packet, id="raw"),
        pytest.param(101, lambda packet: packet, id="linktype raw"),
    ],
)
@pytest.mark.parametrize(("source", "destination"), [(ALICE, BOB), (ALICE6, BOB6)])
def test_every_link_gives_the_datagram(link_type, wrap, source, destination):
    (found,) = read(link_type, wrap(udp(source, destination, b"hello")))
    assert found == Datagram(1, 0.0, source, destination, b"hello", 0)


def test_segment():
    (found,) = read(101, tcp(ALICE6, BOB6, 77, b"abc"))
    assert found == Segment(1, 0.0, ALICE6, BOB6, 77, b"abc", 0, begins=False)
    (found,) = read(101, tcp(ALICE, BOB, 76, syn=True))
    assert (found.begins, found.octets) == (True, b"")


def test_ethernet_padding_is_not_payload():
    (found,) = read(1, ethernet(udp(ALICE, BOB, b"x")) + bytes(17))
    assert found.octets == b"x"


def test_what_the_snap_length_cut_off_is_counted():
    (datagram,) = read(101, udp(ALICE, BOB, b"0123456789")[:-4])
    assert (datagram.octets, datagram.missing) == (b"012345", 4)
    (segment,) = read(101, tcp(ALICE, BOB, 1, b"0123456789")[:-3])
    assert (segment.octets, segment.missing) == (b"0123456", 3)
    (segment,) = read(101, tcp(ALICE6, BOB6, 1, b"0123456789")[:-2])
    assert (segment.octets, segment.missing) == (b"01234567", 2)


def fragments(transport: bytes, size: int, ident: int = 1) -> list[bytes]:
    pieces = range(0, len(transport), size)
    return [
        ip(ALICE, BOB, 17, transport[at : at + size], id=ident, mf=int(at + size < len(transport)), offset=at // 8)
        for at in pieces
    ]


def fragments6(transport: bytes, size: int) -> list[bytes]:
    packets = []
    for at in range(0, len(transport), size):
        part = transport[at : at + size]
        more = at + size < len(transport)
        header = struct.pack(">BBHI", 17, 0, at | more, 99)
        body = header + part
        packets.append(
            struct.pack(">IHBB", 6 << 28, len(body), 44, 64) + octets(ALICE6[0]) + octets(BOB6[0]) + body,
        )
    return packets


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 0, 1, 2]])
def test_fragments_are_put_together_in_any_order(order):
    payload = bytes(range(256)) * 4
    for parts, source, destination in (
        (fragments(udp_header_and(ALICE, BOB, payload), 400), ALICE, BOB),
        (fragments6(udp_header_and(ALICE6, BOB6, payload), 400), ALICE6, BOB6),
    ):
        *waiting, last = read(101, *(parts[index] for index in order))
        assert waiting == [None] * len(waiting)
        assert last == Datagram(len(order), 0.0, source, destination, payload, 0)


def test_overlapping_fragments_are_never_a_datagram():
    whole = udp_header_and(ALICE, BOB, bytes(64))
    overlapping = ip(ALICE, BOB, 17, whole[16:48], id=1, mf=1, offset=2)
    first, *rest = fragments(whole, 24)
    assert read(101, first, overlapping, *rest) == [None] * (2 + len(rest))


def test_fragments_that_never_end_are_forgotten():
    reader = PacketReader()
    whole = udp_header_and(ALICE, BOB, bytes(32))
    first, last = fragments(whole, 24)
    read(101, first, reader=reader)
    for ident in range(2, MAX_FRAGMENTED + 2):
        read(101, fragments(whole, 24, ident)[0], reader=reader)
    assert read(101, last, reader=reader) == [None]
    assert read(101, fragments(whole, 24, MAX_FRAGMENTED + 1)[1], reader=reader)[0].octets == bytes(32)


def test_other_protocols_are_passed_over():
    arp = bytes(dpkt.ethernet.Ethernet(type=0x806, data=dpkt.arp.ARP()))
    assert read(1, arp, ethernet(ip(ALICE, BOB, 1, bytes(8)))) == [None, None]


def test_unknown_links_and_damaged_headers_are_counted():
    reader = PacketReader()
    assert read(147, b"anything", reader=reader) == [None]
    assert read(101, b"", reader=reader) == [None]
    assert read(101, ip(ALICE, BOB, 6, b"short"), reader=reader) == [None]
    assert reader.unread == 3


@given(st.sampled_from([0, 1, 12, 101, 108, 113, 147, 276]), st.binary(max_size=120))
def test_random_frames_do_not_raise(link_type, data):
    read(link_type, data)


@given(st.data())
def test_altered_packets_do_not_raise(data):
    packet = bytearray(
        data.draw(st.sampled_from([udp(ALICE, BOB, b"abc"), tcp(ALICE6, BOB6, 1, b"abc"), *fragments6(bytes(50), 24)]))
    )
    for _ in range(data.draw(st.integers(1, 5))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    read(1, ethernet(bytes(packet)))
    read(101, bytes(packet[: data.draw(st.integers(0, len(packet)))]))
