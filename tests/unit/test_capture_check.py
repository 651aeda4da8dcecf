"""Encoding again: each cause of other octets is proved, and what is not proved is called unexplained."""

from collections import Counter
from dataclasses import replace

import pytest
from capture_builder import CAPTURES, RECORDED

from gatekeeperd.capture.bitmaps import Bitmap, schema
from gatekeeperd.capture.check import _CODINGS, Cause, check
from gatekeeperd.capture.dissect import Dissector, Origin, Pdu, Protocol
from gatekeeperd.capture.files import read_frames
from gatekeeperd.wire import h225, q931

ORIGIN = Origin(1, 0.0, ("10.0.0.5", 1719), ("10.0.0.1", 1719))
CONFIRM = ("unregistrationConfirm", {"requestSeqNum": 9})
REJECT = (
    "unregistrationReject",
    {
        "requestSeqNum": 9,
        "rejectReason": ("callInProgress", None),
        "altGKInfo": {
            "alternateGatekeeper": [],
            "altGKisPermanent": False,
        },
    },
)


def pdu(octets: bytes) -> Pdu:
    value = h225.decode_ras(octets)
    return Pdu(0, ORIGIN, Protocol.RAS, value[0], value, octets)


def rewritten(message, widths) -> bytes:
    """Encode ``message`` as a sender whose extension bitmaps have these widths."""
    codec = schema.codec("H225.RasMessage", max_octets=8192, max_items=10_000)
    traced = codec.decode(h225.encode_ras(message))
    assert len(traced.bitmaps) == len(widths)
    return codec.encode(traced._replace(bitmaps=tuple(Bitmap(width, 0) for width in widths)))


def test_recorded_captures_keep_every_value_and_every_difference_is_a_shorter_bitmap():
    """350 of 693 messages (562 of them in PER) differ in octets; Q.931 never does."""
    verdicts = Counter()
    for name in RECORDED:
        for item in Dissector().dissect(read_frames(CAPTURES / f"{name}.pcap")):
            verdict = check(item)
            assert verdict.fault is None, (name, item.origin.frame, verdict.fault)
            assert (verdict.cause is None) == (verdict.written == item.octets)
            assert all(theirs < ours for theirs, ours in verdict.bitmaps)
            verdicts[item.protocol, verdict.cause] += 1
    assert verdicts == {
        (Protocol.RAS, None): 108,
        (Protocol.RAS, Cause.SHORTER_BITMAP): 171,
        (Protocol.Q931, None): 131,
        (Protocol.H225, Cause.SHORTER_BITMAP): 131,
        (Protocol.H245, None): 104,
        (Protocol.H245, Cause.SHORTER_BITMAP): 36,
        (Protocol.FAST_START, Cause.SHORTER_BITMAP): 12,
    }


def test_equal_octets():
    verdict = check(pdu(h225.encode_ras(REJECT)))
    assert (verdict.fault, verdict.cause, verdict.bitmaps) == (None, None, ())


def known_width() -> int:
    codec = schema.codec("H225.RasMessage", max_octets=8192, max_items=10_000)
    (bitmap,) = codec.decode(h225.encode_ras(REJECT)).bitmaps
    assert bitmap.width == bitmap.known
    return bitmap.known


@pytest.mark.parametrize(("change", "cause"), [(-1, Cause.SHORTER_BITMAP), (3, Cause.LONGER_BITMAP)])
def test_bitmap_of_another_length(change, cause):
    ours = known_width()
    octets = rewritten(REJECT, [ours + change])
    assert h225.decode_ras(octets) == REJECT
    verdict = check(pdu(octets))
    assert (verdict.fault, verdict.cause, verdict.bitmaps) == (None, cause, ((ours + change, ours),))


def test_additions_of_a_later_version_come_back():
    later = ("unregistrationReject", {**REJECT[1], "_ext_30": b"new"})
    ours = check(pdu(h225.encode_ras(later)))
    assert (ours.fault, ours.cause) == (None, None)
    verdict = check(pdu(rewritten(later, [40])))
    assert (verdict.fault, verdict.cause) == (None, Cause.LONGER_BITMAP)


def test_own_octets_that_do_not_decode_are_a_fault(monkeypatch):
    monkeypatch.setitem(_CODINGS, Protocol.RAS, replace(_CODINGS[Protocol.RAS], encode=lambda _: b"\xff\xff"))
    assert check(pdu(h225.encode_ras(CONFIRM))).fault.startswith("our own octets don't decode: ")


def test_padding_alone_and_with_a_shorter_bitmap():
    assert check(pdu(h225.encode_ras(CONFIRM) + b"\0\0")).cause is Cause.PADDING
    assert check(pdu(rewritten(REJECT, [known_width() - 1]) + b"\0")).cause is Cause.BITMAP_AND_PADDING


def test_bitmap_without_a_bit_is_unexplained():
    # The SEQUENCE's extension bit (behind the six of the CHOICE) set, and a bitmap of one bit that names no addition.
    plain = h225.encode_ras(CONFIRM)
    assert not plain[0] & 0b10
    octets = bytes([plain[0] | 0b10]) + plain[1:] + b"\x00\x00"
    assert h225.decode_ras(octets) == CONFIRM
    verdict = check(pdu(octets))
    assert (verdict.fault, verdict.cause) == (None, Cause.UNEXPLAINED)


def test_value_that_changes_or_can_not_be_written_is_a_fault():
    good = pdu(h225.encode_ras(CONFIRM))
    assert "can't be encoded" in check(replace(good, value=("unregistrationConfirm", {}))).fault
    as_list = {"requestSeqNum": 9, "altGKInfo": {"alternateGatekeeper": (), "altGKisPermanent": False}}
    changing = replace(good, value=("unregistrationReject", {"rejectReason": ("callInProgress", None), **as_list}))
    assert check(changing).fault == "encoding it again gives another value"


def test_q931_has_no_excuse():
    message = q931.decode(b"\x08\x02\x00\x01\x62")
    assert check(Pdu(0, ORIGIN, Protocol.Q931, "Facility", message, b"\x08\x02\x00\x01\x62\x28\x00")).cause is Cause.UNEXPLAINED
