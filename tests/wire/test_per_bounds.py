"""Hostile input: what a message may be at most, parts of later versions, and values that no message has."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import h225, h245, per_bits
from gatekeeperd.wire.per_bits import MAX_DEPTH
from gatekeeperd.wire.per_engine import INTERPRETED_ENGINE
from gatekeeperd.wire.schema import Schema
from tests.fuzz.codec import captured
from tests.fuzz.values import Values

URQ: tuple[str, dict[str, Any]] = (
    "unregistrationRequest",
    {"requestSeqNum": 1, "callSignalAddress": [("ipAddress", {"ip": b"\x7f\0\0\1", "port": 1720})]},
)


def ras(schema: Schema, *, max_octets: int = h225.MAX_RAS_OCTETS, max_items: int = h225.MAX_RAS_ITEMS) -> Any:
    return schema.codec("H225.RasMessage", max_octets=max_octets, max_items=max_items)


def compound(levels: int) -> dict[str, Any]:
    """A genericData whose parameters hold parameters, and so on."""
    parameter: dict[str, Any] = {"id": ("standard", 1)}
    for _ in range(levels):
        parameter = {"id": ("standard", 1), "content": ("compound", [parameter])}
    return {"id": ("standard", 1), "parameters": [parameter]}


def test_depth_is_bounded_both_ways(schema: Schema) -> None:
    def message(levels: int) -> tuple[str, dict[str, Any]]:
        return "unregistrationConfirm", {"requestSeqNum": 1, "genericData": [compound(levels)]}

    fits = (MAX_DEPTH - 7) // 3
    octets = ras(schema).encode(message(fits))
    assert ras(schema).decode(octets) == message(fits)
    with pytest.raises(EncodeError, match=f"nested deeper than {MAX_DEPTH}"):
        ras(schema).encode(message(fits + 1))
    with pytest.raises(EncodeError, match="nested deeper"):
        ras(schema).encode(message(500))
    # The same by hand, since no encoder of ours writes it: an open type of two octets' length, and one run of octets a level.
    for levels in (fits, fits + 1, 500):
        inner = bytes.fromhex("014000010000") + bytes.fromhex("400001500000") * levels + bytes.fromhex("000001")
        deep = bytes.fromhex("1e00000820") + (0x8000 | len(inner)).to_bytes(2, "big") + inner
        if levels == fits:
            assert ras(schema).decode(deep) == message(fits)
        else:
            with pytest.raises(DecodeError, match=f"nested deeper than {MAX_DEPTH}"):
                ras(schema).decode(deep)


def test_a_value_that_contains_itself_ends(schema: Schema) -> None:
    parameter: dict[str, Any] = {"id": ("standard", 1)}
    parameter["content"] = ("compound", [parameter])
    with pytest.raises(EncodeError, match="nested deeper"):
        ras(schema).encode(
            ("unregistrationConfirm", {"requestSeqNum": 1, "genericData": [{"id": ("standard", 1), "parameters": [parameter]}]})
        )


def test_the_number_of_fields_is_bounded(schema: Schema) -> None:
    address = URQ[1]["callSignalAddress"][0]
    full = ("unregistrationRequest", {"requestSeqNum": 1, "callSignalAddress": [address] * 900})
    octets = ras(schema).encode(full)
    assert ras(schema).decode(octets) == full
    with pytest.raises(DecodeError, match="more fields than a message may have"):
        ras(schema, max_items=1000).decode(octets)
    # A list of NULL-like items costs its sender no octets: 16,383 of them are refused before the first is made.
    table = schema.codec("SEQUENCE OF NULL", max_octets=100, max_items=h245.MAX_ITEMS)
    with pytest.raises(DecodeError, match="more fields"):
        table.decode(b"\xbf\xff")


def test_the_number_of_octets_is_bounded(schema: Schema) -> None:
    large = (
        "unregistrationConfirm",
        {"requestSeqNum": 1, "nonStandardData": {"nonStandardIdentifier": ("object", (1, 3)), "data": bytes(9000)}},
    )
    with pytest.raises(EncodeError, match="octets; at most 8192 are sent"):
        ras(schema).encode(large)
    octets = ras(schema, max_octets=10000).encode(large)
    with pytest.raises(DecodeError, match="octets; at most 8192 are taken"):
        ras(schema).decode(octets)


def test_limits_of_the_four_decoders() -> None:
    for decoder, limit in (
        (h225.decode_ras, h225.MAX_RAS_OCTETS),
        (h225.decode_user_information, h225.MAX_USER_INFORMATION_OCTETS),
        (h245.decode, h245.MAX_OCTETS),
        (h245.decode_open_logical_channel, h245.MAX_OCTETS),
    ):
        with pytest.raises(DecodeError, match=f"at most {limit} are taken"):
            decoder(bytes(limit + 1))
        with pytest.raises(DecodeError):
            decoder(b"")


def test_what_real_peers_send_is_far_from_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_bits, "MAX_DEPTH", 10)
    schema = Schema(*INTERPRETED_ENGINE)
    for name, octets in captured():
        schema.codec(name, max_octets=421, max_items=113).decode(octets)


def test_every_truncation_is_refused(schema: Schema) -> None:
    value = Values(random.Random(5), density=0.8, unknown=False).message("H225.RasMessage", "registrationRequest")
    octets = ras(schema).encode(value)
    for length in range(len(octets)):
        with pytest.raises(DecodeError):
            ras(schema).decode(octets[:length])


def test_zero_padding_is_tolerated_and_nothing_else(schema: Schema) -> None:
    octets = ras(schema).encode(URQ)
    assert ras(schema).decode(octets + bytes(100)) == URQ
    for tail in (b"\x01", b"\0\0\x80", octets):
        with pytest.raises(DecodeError, match="octets after the end"):
            ras(schema).decode(octets + tail)


def test_padding_within_an_extension(schema: Schema) -> None:
    # UCF with the extension integrityCheckValue, whose open type may be longer than its content by zero octets only.
    value = ("unregistrationConfirm", {"requestSeqNum": 1, "genericData": []})
    octets = ras(schema).encode(value)
    assert octets.endswith(b"\x01\x00")
    assert ras(schema).decode(octets[:-2] + b"\x03\x00\x00\x00") == value
    with pytest.raises(DecodeError, match="genericData: octets after the end"):
        ras(schema).decode(octets[:-2] + b"\x03\x00\x00\x07")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("H225.RasMessage", ("_ext_8", b"later")),
        ("H225.RasMessage", ("_ext_55", b"")),
        ("H225.RasMessage", ("unregistrationConfirm", {"requestSeqNum": 1, "_ext_9": b"x", "_ext_55": bytes(300)})),
        ("H225.RasMessage", ("unregistrationConfirm", {"requestSeqNum": 1, "tokens": [], "_ext_20": b"x"})),
        ("H225.RasMessage", ("unregistrationReject", {"requestSeqNum": 1, "rejectReason": ("_ext_40", b"\1\2")})),
        ("H225.ScreeningIndicator", "_ext_0"),
        ("H225.ScreeningIndicator", "_ext_55"),
    ],
)
def test_parts_of_later_versions_survive(schema: Schema, text: str, value: Any) -> None:
    codec = schema.codec(text, max_octets=8192, max_items=100)
    octets = codec.encode(value)
    assert codec.decode(octets) == value
    assert codec.encode(codec.decode(octets)) == octets


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from([(), [], {}, object()]),
    st.tuples(st.text(max_size=3), st.none()),
    st.tuples(st.integers(), st.integers()),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.integers(), st.none(), max_size=2),
)


def replaced(rng: Any, value: Any, junk: Any) -> Any:
    """The value with one part, anywhere in it, replaced by junk."""
    if rng.random() < 0.2:
        return junk
    if isinstance(value, dict) and value:
        name = rng.choice(sorted(value))
        return value | {name: replaced(rng, value[name], junk)}
    if isinstance(value, list) and value:
        index = rng.randrange(len(value))
        return [*value[:index], replaced(rng, value[index], junk), *value[index + 1 :]]
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return value[0], replaced(rng, value[1], junk)
    return junk


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=False), junk=JUNK)
def test_encode_raises_nothing_but_encode_error(schema: Schema, rng: Any, junk: Any) -> None:
    value = replaced(rng, Values(rng).of("H225.RasMessage"), junk)
    codec = ras(schema)
    try:
        octets = codec.encode(value)
    except EncodeError:
        return
    # Not the value: a tuple is taken for a list.
    assert codec.encode(codec.decode(octets)) == octets
