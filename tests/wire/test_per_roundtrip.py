"""Every field of every type goes out and comes back; and what we write, pycrate reads as the same value."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycrate_asn1dir import H225

from gatekeeperd.wire.schema import Codec, Schema
from gatekeeperd.wire.tables import TYPES
from tests.fuzz.values import Values, parts

PYCRATE_MODULES = {"H225": "H323-MESSAGES", "H235": "H235-SECURITY-MESSAGES", "H245": "MULTIMEDIA-SYSTEM-CONTROL"}
RAS_MESSAGES = [name for name, _, _ in parts(TYPES["H225.RasMessage"][1] + (TYPES["H225.RasMessage"][2] or ()))]
CONTROL_MESSAGES = [
    (group, name)
    for group, kind, _ in parts(TYPES["H245.MultimediaSystemControlMessage"][1])
    for name, _, _ in parts(TYPES[kind][1] + (TYPES[kind][2] or ()))
]
BODIES = [
    name
    for entry in TYPES["H225.H323-UU-PDU.h323-message-body"][1:]
    for name, _, _ in parts(entry or ())  # type: ignore[arg-type]
]
RANDOM = st.randoms(use_true_random=False)


def wide_codec(schema: Schema, name: str) -> Codec:
    return schema.codec(name, max_octets=1 << 20, max_items=1 << 20)


def pycrate_type(name: str) -> Any:
    """pycrate's own object for a type of the tables; None for an inner type, which it reaches through the outer one."""
    prefix, _, rest = name.partition(".")
    module = H225.GLOBAL.MOD[PYCRATE_MODULES[prefix]]
    return module[rest] if rest in module and "." not in rest else None


def same(ours: Any, theirs: Any) -> bool:
    """pycrate writes NULL as 0, wraps the content of open types, and leaves the rest as we do."""
    if ours is None:
        return theirs == 0
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, tuple) and len(ours) == 2 and isinstance(ours[0], str):
        return bool(ours[0] == theirs[0]) and same(ours[1], theirs[1])
    if isinstance(ours, bytes) and isinstance(theirs, tuple):
        return ours == theirs[1]
    return bool(ours == theirs)


def check(codec: Codec, name: str, value: Any, values: Values) -> None:
    """The value goes out and comes back, and pycrate reads it too."""
    octets = codec.encode(value)
    assert codec.decode(octets) == value
    assert codec.encode(codec.decode(octets)) == octets
    oracle = pycrate_type(name)
    if oracle is not None and not values.recursive and not values.empty_digits:
        oracle.from_aper(octets)
        assert same(value, oracle.get_val()), value


@pytest.mark.parametrize("name", TYPES)
def test_every_field_of_every_type(schema: Schema, name: str) -> None:
    kind, root, extensions = TYPES[name]
    members = parts(root + (extensions or ()))

    def values(density: float = 0.0) -> Values:
        return Values(random.Random(name), density=density, unknown=False, latin=False)

    def cases() -> Iterator[tuple[Any, Values]]:
        if kind == "SEQUENCE":
            for made in (values(), values(density=1.0)):
                yield made.of(name), made
        for member, item, _ in members:
            made = values()
            if kind == "SEQUENCE":
                yield made.of(name) | {member: made.of(item)}, made
            else:
                yield member if kind == "ENUMERATED" else (member, made.of(item)), made

    codec = wide_codec(schema, name)
    for value, made in cases():
        check(codec, name, value, made)


@pytest.mark.parametrize("alternative", RAS_MESSAGES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=RANDOM)
def test_any_ras_message(schema: Schema, alternative: str, rng: Any) -> None:
    values = Values(rng, latin=False)
    value = values.message("H225.RasMessage", alternative)
    check(wide_codec(schema, "H225.RasMessage"), "H225.RasMessage", value, values)


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=RANDOM)
def test_any_user_information(schema: Schema, body: str, rng: Any) -> None:
    values = Values(rng, latin=False)
    value = values.of("H225.H323-UserInformation")
    value["h323-uu-pdu"]["h323-message-body"] = values.message("H225.H323-UU-PDU.h323-message-body", body)
    check(wide_codec(schema, "H225.H323-UserInformation"), "H225.H323-UserInformation", value, values)


@pytest.mark.parametrize(("group", "alternative"), CONTROL_MESSAGES)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=RANDOM)
def test_any_control_message(schema: Schema, group: str, alternative: str, rng: Any) -> None:
    kind = next(kind for name, kind, _ in parts(TYPES["H245.MultimediaSystemControlMessage"][1]) if name == group)
    values = Values(rng, latin=False)
    value = (group, values.message(kind, alternative))
    check(wide_codec(schema, "H245.MultimediaSystemControlMessage"), "H245.MultimediaSystemControlMessage", value, values)
