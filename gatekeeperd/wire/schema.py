"""From tables to codecs: builds the types of ``tables`` out of the classes of ``per``, compiled where they are.

What lives here: the notation of ``tables``, and the turn of :class:`Misfit` into the two errors that callers know.
What never does: limits and names of particular messages; ``h225`` and ``h245`` have those.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any, Final

from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import per_types
from gatekeeperd.wire.per_engine import engine
from gatekeeperd.wire.tables import TYPES

__all__ = ["Codec", "Schema", "default_schema"]

_BUILTIN: Final = re.compile(
    r"(?P<kind>[A-Za-z0-9]+(?: STRING| IDENTIFIER)?)"
    r"(?:\((?P<low>-?\d+)(?:\.\.(?P<high>-?\d+|MAX)(?P<extensible>,\.\.\.)?)?\))?"
    r"(?:\[(?P<alphabet>.+)\])?"
)
_LIST: Final = re.compile(r"SEQUENCE(?:\((?P<low>\d+)\.\.(?P<high>\d+)\))? OF (?P<item>.+)")
# Alphabets that are numbered anew in 4 bits a character; larger ones keep their 8-bit codes (X.691 clause 30.5).
_LARGEST_DIGIT_ALPHABET: Final = 16


class Codec:
    """One type of the tables, both ways, held to ``max_octets`` and ``max_items`` fields a message."""

    __slots__ = ("_decode", "_encode", "_misfit", "_node", "max_items", "max_octets")

    def __init__(self, engine: ModuleType, node: per_types.Node, *, max_octets: int, max_items: int) -> None:
        self._node = node
        self._decode = engine.decode
        self._encode = engine.encode
        self._misfit = engine.Misfit
        self.max_octets = max_octets
        self.max_items = max_items

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Decode one message. Raises :class:`DecodeError` and nothing else, whatever the octets are."""
        if len(data) > self.max_octets:
            raise DecodeError(f"{len(data)} octets; at most {self.max_octets} are taken")
        try:
            return self._decode(self._node, bytes(data), self.max_items)
        except self._misfit as misfit:
            raise DecodeError(str(misfit)) from None

    def encode(self, value: Any) -> bytes:
        """Encode one message. Raises :class:`EncodeError`, whose message names the field that does not fit."""
        try:
            data: bytes = self._encode(self._node, value)
        except self._misfit as misfit:
            raise EncodeError(str(misfit)) from None
        if len(data) > self.max_octets:
            raise EncodeError(f"{len(data)} octets; at most {self.max_octets} are sent")
        return data


class Schema:
    """The types of the tables, built on first use out of the classes of ``engine`` (``per``, or its compiled twin)."""

    def __init__(self, engine: ModuleType, types: ModuleType) -> None:
        self._engine = engine
        self._types = types
        self._nodes: dict[str, per_types.Node] = {}

    def codec(self, name: str, *, max_octets: int, max_items: int) -> Codec:
        """Return the codec of the type ``name`` of the tables."""
        return Codec(self._engine, self._node(name), max_octets=max_octets, max_items=max_items)

    def _node(self, text: str) -> per_types.Node:
        node = self._nodes.get(text)
        if node is None:
            entry = TYPES.get(text)
            if entry is None:
                node = self._nodes[text] = self._list_or_builtin(text)
            else:
                node = self._constructed(text, *entry)
        return node

    def _constructed(self, name: str, kind: str, root: tuple[str, ...], extensions: tuple[str, ...] | None) -> per_types.Node:
        if kind == "ENUMERATED":
            node: Any = self._engine.Enumerated(root, extensions)
            self._nodes[name] = node
            return node  # type: ignore[no-any-return]
        # Known before its parts are built: types may contain themselves.
        node = self._nodes[name] = self._engine.Sequence() if kind == "SEQUENCE" else self._engine.Choice()
        added = None if extensions is None else [self._part(part)[:2] for part in extensions]
        parts = [self._part(part) for part in root]
        node.define(parts if kind == "SEQUENCE" else [part[:2] for part in parts], added)
        return node  # type: ignore[no-any-return]

    def _part(self, text: str) -> tuple[str, per_types.Node, bool]:
        name, _, kind = text.partition(" ")
        return name.rstrip("?"), self._node(kind or "NULL"), name.endswith("?")

    def _list_or_builtin(self, text: str) -> per_types.Node:
        match = _LIST.fullmatch(text)
        if match:
            item = self._node(match["item"])
            return self._engine.SequenceOf(int(match["low"] or 0), int(match["high"] or -1), item)  # type: ignore[no-any-return]
        match = _BUILTIN.fullmatch(text)
        if not match:
            raise ValueError(f"the tables say {text!r}")
        kind, alphabet = match["kind"], match["alphabet"] or ""
        if kind == "INTEGER":
            return self._integer(match)
        low = int(match["low"] or 0)
        high = int(match["high"] or match["low"] or -1)
        types = self._types
        plain = {"BOOLEAN": "Boolean", "NULL": "Null", "OBJECT IDENTIFIER": "ObjectIdentifier"}
        if kind in plain:
            return getattr(types, plain[kind])()  # type: ignore[no-any-return]
        sized = {"OCTET STRING": "OctetString", "BIT STRING": "BitString", "BMPString": "BmpString"}
        if kind in sized:
            return getattr(types, sized[kind])(low, high)  # type: ignore[no-any-return]
        string = types.DigitString if 0 < len(alphabet) <= _LARGEST_DIGIT_ALPHABET else types.LatinString
        return string(low, high, alphabet)  # type: ignore[no-any-return]

    def _integer(self, match: re.Match[str]) -> per_types.Node:
        types = self._types
        if match["low"] is None:
            return types.Integer()  # type: ignore[no-any-return]
        low = int(match["low"])
        if match["high"] == "MAX":
            return types.SemiConstrainedInteger(low)  # type: ignore[no-any-return]
        high = int(match["high"] or low)
        return types.ExtensibleInteger(low, high) if match["extensible"] else types.ConstrainedInteger(low, high)  # type: ignore[no-any-return]


default_schema: Final = Schema(*engine)
