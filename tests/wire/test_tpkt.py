"""TPKT: any cutting of a stream gives the same payloads, and nothing but DecodeError comes of a bad one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import tpkt

payloads = st.lists(st.binary(max_size=300), max_size=8)


def feed_all(splitter: tpkt.Splitter, pieces: list[bytes]) -> list[bytes]:
    found = []
    for piece in pieces:
        splitter.feed(piece)
        found += splitter.payloads()
    return found


def test_header_is_version_reserved_and_whole_length():
    assert tpkt.encode(b"\x08\x02") == b"\x03\x00\x00\x06\x08\x02"


@given(payloads, st.data())
def test_any_cutting_gives_the_same_payloads(packets, data):
    stream = b"".join(map(tpkt.encode, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    splitter = tpkt.Splitter()
    assert feed_all(splitter, pieces) == packets
    assert splitter.pending == 0


@given(payloads)
def test_octet_by_octet(packets):
    stream = b"".join(map(tpkt.encode, packets))
    assert feed_all(tpkt.Splitter(), [bytes([octet]) for octet in stream]) == packets


def test_reader_that_stops_half_way_loses_and_repeats_nothing():
    splitter = tpkt.Splitter()
    splitter.feed(b"".join(map(tpkt.encode, [b"one", b"two", b"three"])))
    half = splitter.payloads()
    assert next(half) == b"one"
    half.close()
    assert list(splitter.payloads()) == [b"two", b"three"]


def test_empty_packet_is_a_keep_alive():
    assert feed_all(tpkt.Splitter(), [b"\x03\x00\x00\x04" * 2]) == [b"", b""]


def test_largest_payload_and_one_more():
    whole = bytes(tpkt.MAX_PAYLOAD)
    assert feed_all(tpkt.Splitter(), [tpkt.encode(whole)]) == [whole]
    with pytest.raises(EncodeError, match="65532 octets, 65531 fit"):
        tpkt.encode(whole + b"\0")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"\x02\x00\x00\x08", "version 2"),
        (b"\x03\x01\x00\x08", "reserved octet is 1"),
        (b"\x03\x00\x00\x03", "length 3 is shorter than the header"),
        (b"\x03\x00\x00\x00", "length 0 is shorter than the header"),
        (b"\x03\x00\x10\x05", "payload of 4097 octets, at most 4096"),
    ],
)
def test_bad_header_follows_the_good_payloads_and_stays(header, complaint):
    splitter = tpkt.Splitter(max_payload=4096)
    splitter.feed(tpkt.encode(b"good") + header + b"more")
    reader = splitter.payloads()
    assert next(reader) == b"good"
    with pytest.raises(DecodeError, match=complaint):
        next(reader)
    splitter.feed(tpkt.encode(b"late"))
    with pytest.raises(DecodeError, match=complaint):
        list(splitter.payloads())


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_hostile_stream_is_bounded(pieces):
    splitter = tpkt.Splitter(max_payload=64)
    for piece in pieces:
        splitter.feed(piece)
        try:
            found = list(splitter.payloads())
        except DecodeError:
            return
        assert all(len(payload) <= 64 for payload in found)
        assert splitter.pending <= 64 + tpkt.HEADER_LENGTH


def test_cut_off_packet_is_told():
    splitter = tpkt.Splitter()
    assert feed_all(splitter, [tpkt.encode(b"whole"), tpkt.encode(b"cut off")[:-1]]) == [b"whole"]
    assert splitter.pending == 10
