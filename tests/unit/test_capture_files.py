"""Capture files: both formats in both byte orders, and damage that is named with its frame."""

import struct

import pytest
from capture_builder import ALICE, BOB, pcap, udp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeperd.capture.files import MAX_FRAME, Frame, read_frames
from gatekeeperd.errors import CaptureError


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int, order: str = "<", snap_length: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + options, order)


def enhanced(number: int, ticks: int, octets: bytes, order: str = "<", length: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), length or len(octets))
    return block(6, head + octets, order)


def frames(tmp_path, data: bytes) -> list[Frame]:
    path = tmp_path / "capture"
    path.write_bytes(data)
    return list(read_frames(path))


@pytest.mark.parametrize("nano", [False, True])
def test_pcap(tmp_path, nano):
    found = frames(tmp_path, pcap([b"one", b"three"], link_type=113, nano=nano))
    assert found == [
        Frame(1, 1_700_000_000.0, 113, b"one", 0),
        Frame(2, 1_700_000_000.25, 113, b"three", 0),
    ]


def test_big_endian_pcap_with_a_cut_frame(tmp_path):
    head = struct.pack(">IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 4, 1)
    found = frames(tmp_path, head + struct.pack(">IIII", 5, 500_000, 4, 60) + b"abcd")
    assert found == [Frame(1, 5.5, 1, b"abcd", 56)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_with_interfaces_of_several_links_and_clocks(tmp_path, order):
    nanoseconds = struct.pack(order + "HHB3x", 9, 1, 9) + struct.pack(order + "HH", 0, 0)
    binary = struct.pack(order + "HHB3x", 9, 1, 0x80 | 10) + struct.pack(order + "HHq", 14, 8, 100)
    data = (
        section(order)
        + interface(1, order)
        + interface(113, order, options=nanoseconds)
        + interface(276, order, options=binary)
        + block(5, b"statistics..", order)
        + enhanced(0, 2_500_000, b"abc", order)
        + enhanced(1, 1_500_000_000, b"defg", order, length=9)
        + enhanced(2, 512, b"h", order)
    )
    assert frames(tmp_path, data) == [
        Frame(1, 2.5, 1, b"abc", 0),
        Frame(2, 1.5, 113, b"defg", 5),
        Frame(3, 100.5, 276, b"h", 0),
    ]


def test_pcapng_simple_and_obsolete_packets(tmp_path):
    simple = block(3, struct.pack("<I", 6) + b"abcd")
    obsolete = block(2, struct.pack("<HHIIII", 0, 7, 0, 1_000_000, 3, 3) + b"xyz")
    found = frames(tmp_path, section() + interface(101, snap_length=4) + simple + obsolete)
    assert found == [Frame(1, 0.0, 101, b"abcd", 2), Frame(2, 1.0, 101, b"xyz", 0)]


def test_sections_of_both_byte_orders_in_one_file(tmp_path):
    data = section("<") + interface(1) + enhanced(0, 0, b"a") + section(">") + interface(12, ">") + enhanced(0, 0, b"b", ">")
    assert [(frame.link_type, frame.octets) for frame in frames(tmp_path, data)] == [(1, b"a"), (12, b"b")]


PCAPNG = section() + interface(1) + enhanced(0, 0, b"first") + enhanced(0, 0, b"second")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "neither pcap nor pcapng"),
        (b"#!/bin/sh\n", "neither pcap nor pcapng"),
        (pcap([])[:20], "the file header is cut off"),
        (pcap([b"one", b"two"])[:-1], "frame 2: the file ends after 2 of 3 octets"),
        (pcap([b"one", b"two"])[:-4], "frame 2: the frame's header is cut off"),
        (pcap([b"one"])[:24] + struct.pack("<IIII", 0, 0, MAX_FRAME + 1, 9), f"frame 1: a frame of {MAX_FRAME + 1} octets"),
        (PCAPNG[:-9], "frame 1: the file ends within the block after frame 1"),
        (PCAPNG[:-2] + b"\xff\xff", "frame 1: the two lengths of the block after frame 1 differ"),
        (section()[:8] + b"none" + section()[12:], "a section header without byte order"),
        (section() + struct.pack("<II", 6, 8), "a block of 8 octets after frame 0"),
        (section() + struct.pack("<II", 6, 1 << 30), "a block of 1073741824 octets after frame 0"),
        (section() + block(6, b"abcd"), "frame 1: the block after frame 1 is too short"),
        (section() + enhanced(0, 0, b"a"), "frame 1: the frame belongs to interface 0"),
        (section() + interface(1) + block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99)), "frame 1: 99 octets in a block of 20"),
    ],
)
def test_damage_is_named(tmp_path, data, complaint):
    with pytest.raises(CaptureError) as caught:
        frames(tmp_path, data)
    assert str(caught.value).startswith(str(tmp_path / "capture"))
    assert complaint in str(caught.value)


def test_frames_before_the_damage_are_given(tmp_path):
    path = tmp_path / "torn.pcap"
    path.write_bytes(pcap([b"one", b"two"])[:-1])
    reader = read_frames(path)
    assert next(reader).octets == b"one"
    with pytest.raises(CaptureError) as caught:
        next(reader)
    assert (caught.value.path, caught.value.frame) == (path, 2)


def test_unreadable_file(tmp_path):
    with pytest.raises(CaptureError, match="No such file"):
        list(read_frames(tmp_path / "missing.pcap"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.data())
def test_altered_files_give_frames_or_a_capture_error(tmp_path, old, data):
    whole = bytearray(pcap([udp(ALICE, BOB, b"payload")] * 2) if old else PCAPNG)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        found = frames(tmp_path, bytes(whole[:cut]))
    except CaptureError:
        return
    assert all(len(frame.octets) <= MAX_FRAME for frame in found)
