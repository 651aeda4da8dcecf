"""Personal data in what a request says in words: display names, aliases, conference names.

What lives here: named patterns with their checks, a scan, and which alias is text at all. What never does: the text
that was found (a finding names field and rule, so that it can be logged) and what is done about it (``gates``).

The scan catches carelessness, not intent: who wants to hide a number in a name can. An address is no personal data by
itself, nor is a number that is there to be dialled: a text that is wholly one of these is held only against the
rules for documents (an identity or card number), which no address needs.

Linear by construction: Python's ``re`` backtracks, so a pattern has to be written such that it can't (see
:data:`_LINEAR`), texts are bounded, and so is their number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gatekeeperd.errors import ConfigurationError

#: H.225.0 v7: an h323-ID has at most 256 characters, an email-ID or url-ID 512.
MAX_TEXT: Final = 512
#: All texts of a request together, each with one character more; the worst of them cost about 1.5 ms.
MAX_TOTAL: Final = 1024
_MAX_PATTERN: Final = 300
#: Texts whose findings are kept: those of a thousand guardians, and 4 MB if all were of the longest and widest.
_REMEMBERED_TEXTS: Final = 2048


@dataclass(frozen=True, slots=True)
class Finding:
    """Which rule found something in which field. Never what."""

    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class PiiRule:
    """A pattern, and a check of each match that tells a number from a look-alike.

    ``document``: it finds the number of a document or a card, which has no business in an address either.
    ``numeric``: it can't find anything in a text without a digit, which most names are.
    """

    name: str
    pattern: re.Pattern[str]
    confirms: Callable[[str], bool] | None = None
    document: bool = False
    numeric: bool = False

    def finds(self, text: str) -> bool:
        """Tell whether ``text`` (folded) holds what this rule is about."""
        if self.confirms is None:
            return self.pattern.search(text) is not None
        return any(self.confirms(match.group()) for match in self.pattern.finditer(text))


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(value - 9 * (value > 9) for value in doubled)) % 10 == 0


def _is_card(found: str) -> bool:
    """ISO/IEC 7812: 13 to 19 digits, the last a Luhn check digit. It is written in groups of three and more."""
    groups = re.findall(r"\d{3,}", found)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > 19:
                break
            if len(digits) >= 13 and digits[0] in "3456" and _luhn(digits):
                return True
    return False


#: The IBAN registry of ISO 13616: country and length. Without it, a random identifier is taken for an account too often.
_IBAN_LENGTHS: Final = {
    entry[:2]: int(entry[2:])
    for entry in (  # noqa: SIM905  ninety literals would take a screen
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 "
        "FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
        "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
        "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}


def _is_iban(found: str) -> bool:
    """ISO 13616: its country's length, remainder 1 modulo 97. Words behind it were taken along."""
    length = _IBAN_LENGTHS.get(found[:2].upper(), 0)
    number = ""
    for group in found.upper().split():
        number += group
        if len(number) == length and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1:
            return True
    return False


def _is_phone(found: str) -> bool:
    """E.164: at most 15 digits; fewer than 8 are an extension or a date."""
    return 8 <= sum(character.isdecimal() for character in found) <= 15


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


DEFAULT_RULES: Final = (
    PiiRule(
        "us_ssn",
        _compiled(r"(?<![\d-])(?!000|666|9)\d{3}[-. ](?!00)\d{2}[-. ](?!0000)\d{4}(?![\d-])"),
        document=True,
        numeric=True,
    ),
    PiiRule("credit_card", _compiled(r"(?<!\w)\d[\d .-]{12,}+(?!(?<=\d)\w)"), _is_card, document=True, numeric=True),
    PiiRule("iban", _compiled(r"(?<![a-z\d])[a-z]{2}\d{2} ?+[a-z\d][a-z\d ]{9,}+"), _is_iban, document=True, numeric=True),
    PiiRule(
        "passport",
        _compiled(r"passport[^a-z\d]{0,3}+(?>number|no|nr)?+[^a-z\d]{0,3}+[a-z]{0,2}+\d{6,9}+"),
        document=True,
        numeric=True,
    ),
    PiiRule(
        "date_of_birth",
        _compiled(r"(?<![a-z])(?>dob|born|birthday|birth)(?![a-z])[^\d]{0,12}+\d{1,4}+[-./]\d{1,2}+[-./]\d{1,4}+"),
        numeric=True,
    ),
    PiiRule("email", _compiled(r"@(?<=[\w.%+-]@)[\w-]++\.\w")),
    PiiRule(
        "phone", _compiled(r"\+\d[\d ().-]{6,}+|(?<!\d)\(?+\d{3}\)?+[ .-]{1,2}+\d{3}[ .-]\d{4}(?!\d)"), _is_phone, numeric=True
    ),
)

#: A pattern that can't backtrack: all groups are atomic ``(?>...)`` or look-arounds, all quantifiers that leave a choice
#: are possessive (``*+``, ``++``, ``?+``, ``{2,4}+``), and there are no back-references.
_LINEAR: Final = re.compile(
    r"""(?:
        \(\?(?:>|<?[=!])                                             # an opening bracket
      | \)(?:\?\+)?+                                                 # its end; what is in it comes once at most
      | (?:\\[^\d] | \[\^?+(?:\\.|[^\]\\])++\] | [^()\[\]*+?{}\\])   # an escape, a class, a character
        (?:[*+?]\+ | \{\d{1,3}\} | \{\d{0,3},\d{0,3}\}\+)?+
    )*+""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class PiiRules:
    """The rules that a gatekeeper scans with; without arguments the built-in ones."""

    rules: tuple[PiiRule, ...] = DEFAULT_RULES
    #: The rules that find something in a text. The same few names come with every request, and a scan takes 5 us a text.
    _names_found: Callable[[str], tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names_found", lru_cache(_REMEMBERED_TEXTS)(self._search))

    @classmethod
    def configured(cls, patterns: Mapping[str, str], *, defaults: bool = True) -> PiiRules:
        """Add an operator's patterns (name to regular expression, case ignored) to the built-in ones, or stand alone.

        A pattern of a built-in's name replaces it. Raises :class:`ConfigurationError` naming the pattern.
        """
        own = tuple(PiiRule(name, _checked(name, pattern)) for name, pattern in patterns.items())
        kept = tuple(rule for rule in DEFAULT_RULES if defaults and rule.name not in patterns)
        return cls(kept + own)

    def scan(self, texts: Iterable[tuple[str, str]]) -> tuple[Finding, ...]:
        """Scan ``(field, text)`` pairs. A text too long to scan, or too much text, is a finding too."""
        findings: list[Finding] = []
        total = 0
        for where, text in texts:
            total += len(text) + 1
            if total > MAX_TOTAL:
                findings.append(Finding(where, "too_much"))
                break
            names = ("too_long",) if len(text) > MAX_TEXT else self._names_found(text)
            if names:
                findings += [Finding(where, name) for name in names]
        return tuple(findings)

    def _search(self, text: str) -> tuple[str, ...]:
        """Name the rules that find something in ``text``, at most ``MAX_TEXT`` characters."""
        folded = text if text.isascii() else _folded(text)
        if len(folded) > MAX_TEXT:
            return ("too_long",)
        has_digit = _DIGIT.search(folded) is not None
        free = _ADDRESS.fullmatch(folded) is None
        return tuple(
            rule.name for rule in self.rules if (has_digit or not rule.numeric) and (free or rule.document) and rule.finds(folded)
        )


_DIGIT: Final = re.compile(r"\d")

#: user@host with or without a scheme, a URL, or a number to dial.
_ADDRESS: Final = re.compile(
    r"(?>[a-z][a-z\d+.-]*+:)?+[^\s@]++@[^\s@]++|(?>[a-z][a-z\d+.-]*+://|tel:)[^\s@]++|\+?+[\d*#]{1,15}+", re.IGNORECASE
)

#: Aliases that a person may have written. dialledDigits, partyNumber and the like are numbers to call.
_TEXT_ALIASES: Final = frozenset({"h323-ID", "url-ID", "email-ID"})


def alias_texts(field: str, aliases: Iterable[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Pick out of H.225.0 ``AliasAddress`` values what :meth:`PiiRules.scan` reads; ``field`` names where they stood."""
    return tuple((f"{field}.{kind}", text) for kind, text in aliases if kind in _TEXT_ALIASES)


def _folded(text: str) -> str:
    """Bring look-alikes together: width and style variants, dashes, spaces; drop what has no width."""
    folded = []
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        if category == "Pd":
            folded.append("-")
        elif category == "Zs":
            folded.append(" ")
        elif category != "Cf":
            folded.append(character)
    return "".join(folded)


def _checked(name: str, pattern: str) -> re.Pattern[str]:
    field = f"pii.patterns.{name}"
    if len(pattern) > _MAX_PATTERN:
        raise ConfigurationError(f"is longer than {_MAX_PATTERN} characters", field=field)
    try:
        compiled = _compiled(pattern)
    except (re.error, OverflowError) as error:
        raise ConfigurationError(f"is no regular expression: {error}", field=field) from error
    if _LINEAR.fullmatch(pattern) is None:
        raise ConfigurationError(
            "could take for ever: use (?>...) for groups, *+ ++ ?+ {m,n}+ for quantifiers, and no back-references", field=field
        )
    if compiled.search("") is not None:
        raise ConfigurationError("finds something in every text, even an empty one", field=field)
    return compiled
