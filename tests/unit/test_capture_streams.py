"""TCP order: however segments are cut, doubled and shuffled, the stream comes back, and holes are told."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.capture import streams
from gatekeeperd.capture.packets import Segment
from gatekeeperd.capture.streams import Stream


def segment(sequence: int, octets: bytes = b"", *, frame: int = 1, begins: bool = False, missing: int = 0) -> Segment:
    return Segment(frame, 0.0, ("10.0.0.5", 4000), ("10.0.0.9", 1720), sequence % 2**32, octets, missing, begins)


def run(*segments: Segment) -> list[tuple[bytes, int, bool]]:
    stream = Stream()
    pieces = [piece for one in segments for piece in stream.add(one)]
    pieces += stream.close()
    return [(piece.octets, piece.gap, piece.restart) for piece in pieces]


def text(pieces: list[tuple[bytes, int, bool]]) -> bytes:
    return b"".join(octets for octets, _, _ in pieces)


@given(st.binary(min_size=1, max_size=400), st.integers(0, 2**32 - 1), st.data())
def test_any_cutting_doubling_and_shuffling_comes_back(content, initial, data):
    cuts = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content)), max_size=10))})
    pieces = [(a, content[a:b]) for a, b in pairwise(cuts)]
    # Retransmissions need not have the boundaries of the first sending.
    again = data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 60)), max_size=5))
    pieces += [(start, content[start : start + length]) for start, length in again]
    order = data.draw(st.permutations(pieces))
    found = run(segment(initial, begins=True), *(segment(initial + 1 + start, octets) for start, octets in order))
    assert text(found) == content
    assert all(gap == 0 and not restart for _, gap, restart in found)


def test_sequence_numbers_wrap():
    found = run(segment(2**32 - 3, begins=True), segment(2, b"efg"), segment(2**32 - 2, b"abcd"))
    assert text(found) == b"abcdefg"


def test_capture_that_begins_in_the_middle():
    assert run(segment(5000, b"abc"), segment(5003, b"def"), segment(4000, b"old")) == [(b"abc", 0, False), (b"def", 0, False)]


def test_hole_is_told_when_the_stream_closes():
    assert run(segment(100, b"abc"), segment(110, b"xyz")) == [(b"abc", 0, False), (b"xyz", 7, False)]


def test_hole_that_too_much_waits_behind_is_given_up(monkeypatch):
    monkeypatch.setattr(streams, "MAX_HELD_OCTETS", 10)
    stream = Stream()
    assert [piece.octets for piece in stream.add(segment(100, b"ab"))] == [b"ab"]
    assert list(stream.add(segment(110, b"12345678"))) == []
    found = [(piece.octets, piece.gap) for piece in stream.add(segment(118, b"9999"))]
    assert found == [(b"12345678", 8), (b"9999", 0)]
    assert list(stream.add(segment(102, b"tardy..."))) == []


def test_many_small_segments_behind_a_hole_are_bounded():
    stream = Stream()
    list(stream.add(segment(0, b"a")))
    given_up = [list(stream.add(segment(10 + 2 * number, b"x"))) for number in range(streams.MAX_HELD_SEGMENTS + 1)]
    assert not any(given_up[:-1])
    assert [(piece.octets, piece.gap) for piece in given_up[-1]] == [(b"x", 9)]


def test_what_the_snap_length_cut_off_is_a_gap_at_once():
    assert run(segment(100, b"abc", missing=5), segment(108, b"def")) == [(b"abc", 0, False), (b"def", 5, False)]


def test_new_connection_between_the_same_ports():
    found = run(
        segment(100, begins=True),
        segment(101, b"first"),
        segment(120, b"behind a hole"),
        segment(100, begins=True),  # a repeated SYN is no new connection
        segment(9000, begins=True),
        segment(9001, b"second"),
    )
    assert found == [(b"first", 0, False), (b"behind a hole", 14, False), (b"second", 0, True)]


def test_keep_alive_probe_is_no_data():
    assert run(segment(100, b"abc"), segment(102, b"c"), segment(103, b"d")) == [(b"abc", 0, False), (b"d", 0, False)]
