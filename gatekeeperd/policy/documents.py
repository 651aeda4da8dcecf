"""YAML that an operator wrote, with the line of everything in it.

What lives here: reading YAML text into plain values while noting where each stood, and turning pydantic's complaints
into :class:`ConfigurationError` with path, line and field. What never does: files, and what any field means.

A policy file has no use for anchors, aliases and repeated keys: the first two let a few lines grow without bound and
hide what a guardian is granted, the last silently overrides it. They are refused, as is any tag beyond YAML's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from gatekeeperd.errors import ConfigurationError

#: Keys and indexes that lead to a value, as pydantic's ``loc``.
Location: TypeAlias = tuple[str | int, ...]

#: 10,000 guardians with long descriptions stay below it.
MAX_CHARACTERS: Final = 16 * 1024 * 1024
#: No file of ours nests deeper than four.
MAX_DEPTH: Final = 16
#: How many errors a message lists beyond the first; an operator mends these and asks again.
_LISTED: Final = 9

# Where libyaml is, it reads 1,000 guardians in 0.13 s where Python needs 1.1 s; both give the same nodes and marks.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_COLLECTIONS: Final = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: ``value`` of plain dicts, lists and scalars, ``node`` with the marks, and the lines of all parts."""

    value: Any
    node: yaml.Node
    path: Path
    lines: dict[Location, int] = field(repr=False)

    def line(self, location: Location) -> int:
        """Line (1-based) of ``location``; of the nearest enclosing part where that itself is absent."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]


def parse_document(text: str, path: Path) -> Document:
    """Read one YAML document; ``path`` is for messages only. Raises :class:`ConfigurationError`."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigurationError(f"larger than {MAX_CHARACTERS} characters", path=path)
    try:
        _refuse_references(text, path)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            raise ConfigurationError("is empty", path=path, line=1)
        lines: dict[Location, int] = {(): node.start_mark.line + 1}
        value = _Reader(path, lines).value(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigurationError(f"not YAML: {problem}", path=path, line=mark.line + 1 if mark else None) from error
    return Document(value, node, path, lines)


def validate(document: Document, adapter: TypeAdapter[_T]) -> _T:
    """Validate ``document`` against a pydantic type.

    Raises one :class:`ConfigurationError` with line and field of the topmost error; its message lists up to nine more.
    """
    try:
        return adapter.validate_python(document.value)
    except ValidationError as error:
        complaints = sorted(
            (document.line(found["loc"]), field_name(found["loc"]), _sentence(found["type"], found["msg"]))
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise _one_error(complaints, document.path) from error


def _one_error(complaints: list[tuple[int, str, str]], path: Path) -> ConfigurationError:
    (line, name, message), *others = complaints
    if others:
        listed = "; ".join(f"line {at}: {what}: {why}" for at, what, why in others[:_LISTED])
        unlisted = f"; and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        message = f"{message} ({len(others)} more: {listed}{unlisted})"
    return ConfigurationError(message, path=path, line=line, field=name or None)


def field_name(location: Location) -> str:
    """Write ``("guardians", 3, "role")`` as an operator reads it: ``guardians[3].role``."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".")


def _sentence(kind: str, message: str) -> str:
    known = {"missing": "is missing", "unexpected_keyword_argument": "is not a field of this file"}
    return known.get(kind) or message.removeprefix("Value error, ")


def _refuse_references(text: str, path: Path) -> None:
    """Go through the events first: they come one by one, so that neither depth nor references can hurt yet."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ConfigurationError("anchors and aliases are not allowed: write the value out", path=path, line=line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigurationError(f"nested deeper than {MAX_DEPTH}", path=path, line=line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Nodes to plain values, noting the line of each."""

    def __init__(self, path: Path, lines: dict[Location, int]) -> None:
        self._path = path
        self._lines = lines
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, location: Location) -> Any:
        self._lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_COLLECTIONS:
            raise ConfigurationError(
                f"the tag {node.tag} is not allowed",
                path=self._path,
                line=self._lines[location],
                field=field_name(location) or None,
            )
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, location))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except ValueError as error:  # 2026-02-30 has the form of a date and is none
            raise ConfigurationError(
                f"{node.value!r}: {error}", path=self._path, line=self._lines[location], field=field_name(location)
            ) from error

    def _pairs(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, Any]]:
        seen = set[str]()
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise ConfigurationError("a key must be a name", path=self._path, line=line, field=field_name(location) or None)
            if key in seen:
                raise ConfigurationError("is given twice", path=self._path, line=line, field=field_name((*location, key)))
            seen.add(key)
            yield key, self.value(value_node, (*location, key))
            self._lines[*location, key] = line
