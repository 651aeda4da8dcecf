import json
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeperd.errors import CanonicalError
from gatekeeperd.witness.canonical import MAX_DEPTH, canonical

SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def test_members_are_ordered_by_utf16_code_units_as_in_rfc_8785_section_3_2_3():
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names)))) == ordered


def test_strings_escape_what_rfc_8785_section_3_2_2_2_says_and_nothing_else():
    text = '\b\t\n\f\r"\\\x00\x1f\x7f/\u2028€😀'
    assert canonical(text) == ('"\\b\\t\\n\\f\\r\\"\\\\\\u0000\\u001f\x7f/\u2028€😀"').encode()


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ({}, b"{}"),
        ([], b"[]"),
        ({"b": [1, True, None], "a": {"z": False}}, b'{"a":{"z":false},"b":[1,true,null]}'),
        (-0, b"0"),
        (2**53 - 1, b"9007199254740991"),
        (-(2**53) + 1, b"-9007199254740991"),
        (StrEnum("Colour", "RED").RED, b'"red"'),
        ({"n": IntEnum("Number", "ONE").ONE}, b'{"n":1}'),
    ],
)
def test_values_have_one_form(value, octets):
    assert canonical(value) == octets


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        10**5000,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {None: 1},
        (1, 2),
        b"octets",
        {1, 2},
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_refused_by_name(value):
    with pytest.raises(CanonicalError):
        canonical({"deep": [value]})
    with pytest.raises(CanonicalError):
        canonical(value)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_nesting_is_bounded(wrap):
    value = None
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    canonical(value)
    with pytest.raises(CanonicalError):
        canonical(wrap(value))


@given(VALUES)
def test_it_parses_back_to_the_value_and_is_a_fixed_point(value):
    octets = canonical(value)
    assert json.loads(octets) == value
    assert canonical(json.loads(octets)) == octets


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), SCALARS), st.randoms())
def test_the_order_in_which_members_were_set_does_not_show(value, random):
    shuffled = list(value.items())
    random.shuffle(shuffled)
    assert canonical(dict(shuffled)) == canonical(value)
    assert canonical(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
