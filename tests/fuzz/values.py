"""Random values of any type of the tables, for round trips and as the soil that the fuzzer mutates.

The generator draws from a ``random.Random``: the fuzzer's own, or the one that hypothesis controls and shrinks.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

from gatekeeperd.wire.tables import TYPES

LIST = re.compile(r"SEQUENCE(?:\((\d+)\.\.(\d+)\))? OF (.+)")
BUILTIN = re.compile(r"([A-Za-z0-9]+(?: STRING| IDENTIFIER)?)(?:\((-?\d+)(?:\.\.(-?\d+|MAX)(,\.\.\.)?)?\))?(?:\[(.+)\])?")
FAR = 1000


@cache
def parts(entry: tuple[str, ...]) -> list[tuple[str, str, bool]]:
    """Return ``(name, type, whether OPTIONAL)`` of each field or alternative."""
    return [(name.rstrip("?"), kind or "NULL", name.endswith("?")) for name, _, kind in (part.partition(" ") for part in entry)]


@cache
def list_of(text: str) -> tuple[int, int, str] | None:
    """Return low and high bound (-1: none) and item of a SEQUENCE OF."""
    match = LIST.fullmatch(text)
    return (int(match[1] or 0), int(match[2] or -1), match[3]) if match else None


@cache
def heights() -> dict[str, int]:
    """Return how many types must at least be within each other in a value: what ends recursion."""
    found = dict.fromkeys(TYPES, FAR)

    def height(text: str) -> int:
        if text in found:
            return found[text]
        several = list_of(text)
        return 1 + height(several[2]) if several and several[0] else 0

    for _ in range(30):
        for name, (kind, root, _) in TYPES.items():
            if kind == "SEQUENCE":
                found[name] = 1 + max((height(item) for _, item, optional in parts(root) if not optional), default=0)
            elif kind == "CHOICE":
                found[name] = 1 + min(height(item) for _, item, _ in parts(root))
            else:
                found[name] = 0
    assert max(found.values()) < FAR
    return found


class Values:
    """Random values; about ``items`` parts at most, and ``density`` of the OPTIONAL ones.

    ``unknown`` adds parts of later versions, ``latin`` 8-bit characters, which not every decoder takes.
    ``recursive`` tells whether a value came out that has a type within itself, which pycrate mixes up; ``empty_digits``, one
    with a NumericString of no characters: pycrate (and tshark 4.0) aligns behind its length, X.691 11.9.3.3 note 2 doesn't.
    """

    def __init__(
        self, rng: random.Random, *, items: int = 150, density: float = 0.4, unknown: bool = True, latin: bool = True
    ) -> None:
        self.rng = rng
        self.items = items
        self.density = density
        self.unknown = unknown
        self.latin = latin
        self.recursive = False
        self.empty_digits = False
        self._within: list[str] = []

    def of(self, text: str) -> Any:
        """Return a value of a type as the tables write it."""
        self.items -= 1
        if text in TYPES:
            kind, root, extensions = TYPES[text]
            self.recursive = self.recursive or text in self._within
            self._within.append(text)
            value = getattr(self, "_" + kind.lower())(root, extensions)
            self._within.pop()
            return value
        several = list_of(text)
        if several:
            low, high, item = several
            most = low if self.full else min(low + 3, high if high >= 0 else FAR)
            return [self.of(item) for _ in range(self.rng.randint(low, most))]
        return self._builtin(text)

    @property
    def full(self) -> bool:
        """Whether nothing more is to be added: enough parts, or deep enough."""
        return self.items < 0 or len(self._within) > 12

    def message(self, root: str, alternative: str) -> tuple[str, Any]:
        """Return a value of the CHOICE ``root`` that is the given alternative."""
        for name, kind, _ in parts(TYPES[root][1] + (TYPES[root][2] or ())):
            if name == alternative:
                return name, self.of(kind)
        raise KeyError(alternative)

    def _sequence(self, root: tuple[str, ...], extensions: tuple[str, ...] | None) -> dict[str, Any]:
        fields = {}
        for name, kind, optional in parts(root):
            if not optional or (not self.full and self.rng.random() < self.density):
                fields[name] = self.of(kind)
        for name, kind, _ in parts(extensions or ()):
            if not self.full and self.rng.random() < self.density:
                fields[name] = self.of(kind)
        if self.unknown and extensions is not None and not self.full and self.rng.random() < 0.03:
            fields[f"_ext_{self.rng.randint(len(extensions), 55)}"] = self.octets(0, 300)
        return fields

    def _choice(self, root: tuple[str, ...], extensions: tuple[str, ...] | None) -> tuple[str, Any]:
        if self.full:
            nearest = min(parts(root), key=lambda part: heights().get(part[1], 0))
            return nearest[0], self.of(nearest[1])
        if self.unknown and extensions is not None and self.rng.random() < 0.03:
            return f"_ext_{self.rng.randint(len(extensions), 55)}", self.octets(0, 300)
        name, kind, _ = self.rng.choice(parts(root + (extensions or ())))
        return name, self.of(kind)

    def _enumerated(self, root: tuple[str, ...], extensions: tuple[str, ...] | None) -> str:
        if self.unknown and extensions is not None and self.rng.random() < 0.1:
            return f"_ext_{self.rng.randint(len(extensions), 55)}"
        return self.rng.choice(root + (extensions or ()))

    def size(self, low: int, high: int) -> int:
        """Return a size: often one at the bounds, seldom a long one."""
        if self.full:
            return low
        high = min(high if high >= 0 else FAR, max(low, 200))
        return self.rng.choice((low, high, self.rng.randint(low, high), self.rng.randint(low, min(high, low + 8))))

    def octets(self, low: int, high: int) -> bytes:
        """Return that many octets."""
        return self.rng.randbytes(self.size(low, high))

    def _number(self, low: int, high: int) -> int:
        return self.rng.choice((low, high, self.rng.randint(low, high), min(high, low + 1)))

    def _builtin(self, text: str) -> Any:
        match = BUILTIN.fullmatch(text)
        assert match, text
        kind, low_text, high_text, extensible, alphabet = match.groups()
        if kind == "NULL":
            return None
        if kind == "BOOLEAN":
            return self.rng.random() < 0.5
        if kind == "OBJECT IDENTIFIER":
            first = self.rng.randint(0, 2)
            rest = [
                self.rng.choice((0, 127, 128, 8250, 2**32, self.rng.randint(0, 2**40))) for _ in range(self.rng.randint(0, 6))
            ]
            return (first, self.rng.randint(0, 39 if first < 2 else 999), *rest)
        if kind == "INTEGER":
            if low_text is None or (extensible and self.rng.random() < 0.3):
                return self.rng.choice((0, -1, 127, 128, -128, -129, 2**63, self.rng.randint(-(2**99), 2**99)))
            low = int(low_text)
            return self._number(low, low + 2**70 if high_text == "MAX" else int(high_text or low))
        low = int(low_text or 0)
        high = int(high_text or low_text or -1)
        count = self.size(low, high)
        self.empty_digits = self.empty_digits or (kind == "NumericString" and count == 0)
        if kind == "OCTET STRING":
            return self.rng.randbytes(count)
        if kind == "BIT STRING":
            return (self.rng.getrandbits(count) if count else 0, count)
        if kind == "BMPString":
            return "".join(self.rng.choice("aZ0 \u00e9\u0416\u4e2d\uffee\0") for _ in range(count))
        characters = alphabet or (
            "az09 ~\0" if kind == "PrintableString" else ("az09@.\x7f\u00e9\u00ff" if self.latin else "az09@.\x7f")
        )
        return "".join(self.rng.choice(characters) for _ in range(count))
