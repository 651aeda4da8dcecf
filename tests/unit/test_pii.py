"""The PII scan: what it finds, what it leaves alone, and that no text can make it slow."""

import random
import re
import string
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.pii import DEFAULT_RULES, MAX_TEXT, MAX_TOTAL, Finding, PiiRules, alias_texts

RULES = PiiRules()

FOUND = {
    "Bob, SSN 078-05-1120": "us_ssn",
    "078-05-1120": "us_ssn",
    "078 05 1120": "us_ssn",
    "078.05.1120 Bob": "us_ssn",
    "ssn:078-05-1120": "us_ssn",
    "pay with 4111 1111 1111 1111 please": "credit_card",
    "4111-1111-1111-1111": "credit_card",
    "room 5 4111111111111111": "credit_card",
    "4111 1111 1111 1111 - 2024": "credit_card",
    "378282246310005": "credit_card",
    "6011.1111.1111.1117": "credit_card",
    "IBAN DE89 3704 0044 0532 0130 00": "iban",
    "de89370400440532013000 thanks": "iban",
    "GB82WEST12345698765432": "iban",
    "NO9386011117947": "iban",
    "passport C01X00T47 no, passport no. L8988901": "passport",
    "Passport: 123456789": "passport",
    "Passport number AB1234567": "passport",
    "Ann (born 12/03/1970)": "date_of_birth",
    "DOB 1970-03-12": "date_of_birth",
    "birthday: 12.3.70": "date_of_birth",
    "mail ann@example.org": "email",
    "Ann <ann.b+c@mail.example.org>": "email",
    "call +1 (415) 555-0100": "phone",
    "Ann +49 30 901820": "phone",
    "(415) 555-0100 Ann": "phone",
    "ask 415-555-0100": "phone",
}

LEFT_ALONE = [
    "",
    "Technical guardian",
    "T-01",
    "council",
    "Ann Müller-Lüdenscheidt",
    "審査官",
    "if://guardian/technical",
    "ann@example.org",
    "sip:ann@example.org;transport=tcp",
    "h323:council@192.0.2.7:1720",
    "https://rooms.example.org/council?pin=415-555-0100",
    "tel:+1-415-555-0100",
    "14155550100@example.org",
    "+14155550100",
    "4100",
    "*72#",
    "192.0.2.7:1720",
    "room 2026-10-01 14:30",
    "000-12-3456 order",
    "666-12-3456 order",
    "912-12-3456 order",
    "078-00-1120 order",
    "078-05-0000 order",
    "1078-05-1120 order",
    "078-05-1120-7 order",
    "order 4111 1111 1111 1112",
    "order 1234567890123",
    "DE88 3704 0044 0532 0130 00",
    "version 1.2.3.4",
    "passport office",
    "passport 12345",
    "dobby 12-3-70",
    "reborn 12-3-70",
    "a@b",
    "meet @ 10.30",
    "phone +123456",
    "a4111111111111111",
    "4111111111111111f",
    "AA44 3704 0044 0532 0130 00",
]


@pytest.mark.parametrize(("text", "rule"), FOUND.items())
def test_it_finds(text, rule):
    assert RULES.scan([("display", text)]) == (Finding("display", rule),)


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_it_leaves_alone(text):
    assert RULES.scan([("display", text)]) == ()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("078-05-1120@example.org", "us_ssn"),
        ("sip:4111111111111111@example.org", "credit_card"),
        ("DE89370400440532013000@bank.example", "iban"),
    ],
)
def test_an_address_is_no_hiding_place_for_the_number_of_a_document(text, rule):
    assert RULES.scan([("url", text)]) == (Finding("url", rule),)


@pytest.mark.parametrize(
    "text",
    [
        "\uff10\uff17\uff18-05-1120 x",  # full-width digits
        "078\u201305\u20131120 x",  # en dashes
        "078\u00a005\u00a01120 x",  # no-break spaces
        "0\u200b78-05-1120 x",  # zero-width space
        "0\u00ad78-05-1120 x",  # soft hyphen
        "\u0660\u0667\u0668-\u0660\u0665-\u0661\u0661\u0662\u0660 x",  # Arabic-Indic digits
    ],
)
def test_look_alikes_are_seen_through(text):
    assert RULES.scan([("display", text)]) == (Finding("display", "us_ssn"),)


def test_random_identifiers_are_left_alone():
    """A call identifier is mostly a UUID; that one of them passes for an account number must stay rarer than 1 in 5,000."""
    chance = random.Random(20260101)
    identifiers = [UUID(int=chance.getrandbits(128), version=4) for _ in range(5000)]
    texts = [text for one in identifiers for text in (str(one), one.hex, f"call-{one.hex[:16]}")]
    assert sum(RULES.scan([("call_id", text)]) != () for text in texts) <= 3


def test_each_text_is_named_and_none_is_quoted():
    found = RULES.scan([("display", "Ann"), ("sourceInfo.h323-ID", "SSN 078-05-1120"), ("room", "a ann@example.org +4930901820")])
    assert found == (Finding("sourceInfo.h323-ID", "us_ssn"), Finding("room", "email"), Finding("room", "phone"))
    assert "078" not in repr(found)


def test_what_is_too_long_to_scan_is_a_finding():
    assert RULES.scan([("display", "x" * MAX_TEXT)]) == ()
    assert RULES.scan([("display", "x" * (MAX_TEXT + 1))]) == (Finding("display", "too_long"),)
    # One ligature that folds to 18 characters.
    assert RULES.scan([("display", "\ufdfa" * 30)]) == (Finding("display", "too_long"),)


def test_what_is_too_much_to_scan_is_a_finding():
    for text in ("", "x", "x" * 127):
        fits = MAX_TOTAL // (len(text) + 1)
        assert RULES.scan([("alias", text)] * fits) == ()
        assert RULES.scan([("alias", text)] * fits + [("last", ""), ("ssn", "078-05-1120")]) == (Finding("last", "too_much"),)


def test_only_aliases_that_a_person_writes_are_texts():
    aliases = [
        ("dialledDigits", "14155550100"),
        ("h323-ID", "Ann"),
        ("url-ID", "if://guardian/technical"),
        ("email-ID", "ann@example.org"),
        ("transportID", ("ipAddress", {"ip": b"\xc0\x00\x02\x01", "port": 1720})),
        ("partyNumber", ("e164Number", {"digits": "1"})),
        ("_ext_7", b"\x00"),
    ]
    assert alias_texts("terminalAlias", aliases) == (
        ("terminalAlias.h323-ID", "Ann"),
        ("terminalAlias.url-ID", "if://guardian/technical"),
        ("terminalAlias.email-ID", "ann@example.org"),
    )


@settings(deadline=None)
@given(st.lists(st.text(max_size=600), max_size=3))
def test_no_text_makes_it_fail(texts):
    for finding in RULES.scan([("display", text) for text in texts]):
        assert finding.field == "display"


@settings(deadline=None)
@given(st.from_regex(r"(?a:[1-578]\d\d-[1-9]\d-[1-9]\d\d\d)", fullmatch=True).filter(lambda number: number[:3] != "666"))
def test_every_social_security_number_is_found(number):
    assert Finding("display", "us_ssn") in RULES.scan([("display", f"me {number} x")])


@settings(deadline=None)
@given(st.integers(3 * 10**14, 6 * 10**14 - 1), st.sampled_from(["", " ", "-"]))
def test_every_number_with_a_luhn_digit_is_found_and_any_other_digit_is_not(number, separator):
    def luhn_sum(digits):
        return sum(n if i % 2 else sum(divmod(2 * n, 10)) for i, n in enumerate(map(int, digits)))

    found = {}
    for check in string.digits:
        card = f"{number:015}{check}"
        found[check] = RULES.scan([("d", "x " + separator.join(re.findall("....", card)))]) != ()
        assert found[check] is (luhn_sum(card) % 10 == 0)
    assert list(found.values()).count(True) == 1


def test_an_operators_pattern_joins_the_built_in_ones():
    rules = PiiRules.configured({"badge": r"(?>badge|id)[ #]{0,2}+\d{4}(?!\d)"})
    assert rules.scan([("display", "Badge #1234")]) == (Finding("display", "badge"),)
    assert rules.scan([("display", "078-05-1120")]) == (Finding("display", "us_ssn"),)


def test_an_operators_pattern_may_replace_a_built_in_one_or_all():
    assert PiiRules.configured({"us_ssn": "x{3}"}).scan([("d", "078-05-1120 x")]) == ()
    alone = PiiRules.configured({"own": "secret"}, defaults=False)
    assert alone.scan([("d", "SECRET 078-05-1120")]) == (Finding("d", "own"),)
    assert PiiRules.configured({}, defaults=False).scan([("d", "078-05-1120")]) == ()
    assert PiiRules.configured({}) == PiiRules()


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(?:a|b)*c",
        r"(?>a*+)*+b",
        r"a*b",
        r"a+b",
        r"a?b",
        r"a{2,5}b",
        r"a{2,}b",
        r"a*?b",
        r"(a)\1",
        r"(?P<n>a)(?P=n)",
        r"(?i)a",
        r"[a]+b",
        r"\d+b",
        r"(?>a){10}",
        r"(?>ab){3}",
    ],
)
def test_a_pattern_that_could_backtrack_is_refused(pattern):
    with pytest.raises(ConfigurationError, match="for ever") as caught:
        PiiRules.configured({"own": pattern})
    assert caught.value.field == "pii.patterns.own"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "no regular expression"),
        ("x*+", "even an empty one"),
        ("x" * 301, "longer"),
        ("x{99999999999999999999}", "no regular"),
    ],
)
def test_a_pattern_that_is_useless_is_refused(pattern, words):
    with pytest.raises(ConfigurationError, match=words):
        PiiRules.configured({"own": pattern})


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_the_built_in_patterns_obey_what_an_operators_must(rule):
    PiiRules.configured({rule.name: rule.pattern.pattern})


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_a_numeric_rule_finds_nothing_without_a_digit(rule):
    assert rule.numeric is not rule.finds("a@b.c d")
