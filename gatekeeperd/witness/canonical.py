"""Canonical JSON octets: one value, one octet string, so that a hash or a signature over it means one thing.

What lives here: RFC 8785 (JCS) for the values this project signs and chains: None, bool, int, str, list, dict.
What never does: parsing, hashing, signing. Floats are refused, not formatted: ECMAScript number formatting is the one
hard part of RFC 8785, and nothing here needs it.
"""

from __future__ import annotations

from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

from gatekeeperd.errors import CanonicalError

#: RFC 7493 section 2.2: integers beyond this lose digits in readers that hold numbers as doubles.
MAX_INTEGER: Final = 2**53 - 1

#: Our deepest value nests four levels; a bound keeps a hostile HTTP body from exhausting the stack.
MAX_DEPTH: Final = 32


def canonical(value: object) -> bytes:
    """Return the RFC 8785 octets (UTF-8) of ``value``.

    ``value`` is built of None, bool, int (magnitude up to 2**53 - 1), str, list and dict with str keys; subclasses of str
    and int (``StrEnum``, ``IntEnum``) stand for their plain value. Object members are ordered by the UTF-16 code units of their
    names (RFC 8785 section 3.2.3).

    Raises CanonicalError for anything else, for nesting beyond ``MAX_DEPTH`` and for lone surrogates.
    """
    try:
        return _text(value, 0).encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(f"lone surrogate {error.object[error.start]!r} in a string") from None


def _text(value: object, depth: int) -> str:
    # Exact types first: nearly every value is of one, and this runs for each member of each witness record.
    if type(value) is str:
        return encode_basestring(value)
    if type(value) is dict:
        return _object(value, depth + 1)
    if type(value) is list:
        return _array(value, depth + 1)
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return int.__repr__(value)
        raise CanonicalError("an integer is beyond 2**53 - 1")
    if isinstance(value, str):
        return encode_basestring(value)
    raise CanonicalError(f"{type(value).__name__} has no canonical form here")


def _array(value: list[object], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    items = [encode_basestring(item) if type(item) is str else _text(item, depth) for item in value]
    return "[" + ",".join(items) + "]"


def _object(value: dict[str, object], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    # Records of one event have the same names: looked up, they cost half of what sorting and quoting them again does.
    members = [
        label + (encode_basestring(member) if type(member := value[name]) is str else _text(member, depth))
        for name, label in _labels(tuple(value))
    ]
    return "{" + ",".join(members) + "}"


@lru_cache(maxsize=256)
def _labels(names: tuple[object, ...]) -> tuple[tuple[str, str], ...]:
    """Return an object's member names in canonical order, each with its quoted form and the colon."""
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names):
        raise CanonicalError("an object member's name is not a string")
    return tuple((name, f"{encode_basestring(name)}:") for name in sorted(texts, key=_utf16))


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")
