"""Changing the registry file: a guardian joins, is suspended, reinstated or revoked.

What lives here: edits of the text at the places that YAML's marks give, so that comments and order stay, and the write
that replaces the file as a whole. What never does: asking, printing, and keys (a registry holds public ones only).

Each edit holds a lock on the file's folder, and its result is validated like any registry before it replaces the file.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.documents import parse_document
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry, parse_registry, read_text
from gatekeeperd.security.keys import format_public_key

_HEADER = "# Guardian registry. Reloaded on SIGHUP; a file with an error is refused and the last good one stays.\n"


class _Dumper(yaml.SafeDumper):
    """Writes a value again where PyYAML would write an anchor: guardians may share the time of their registration."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  PyYAML's signature
        return True


def write_registry(path: Path, guardians: Iterable[Guardian]) -> Registry:
    """Make or replace a registry file (mode 0644) of these guardians.

    Raises :class:`ConfigurationError` when they can't form a registry or the file can't be written.
    """
    entries = [as_entry(guardian) for guardian in guardians]
    text = f"{_HEADER}version: 1\nguardians:{_block(entries, '  ') if entries else ' []'}\n"
    path = path.resolve()
    with _lock(path):
        registry = parse_registry(text, path)
        _replace(path, text)
    return registry


def add_guardian(path: Path, guardian: Guardian) -> Registry:
    """Append a guardian to the file. Raises :class:`ConfigurationError`, also for a name or key that is in use."""
    return _edit(path, lambda text, node, _: _with_guardian(text, node, guardian, path))


def set_status(path: Path, terminal_id: str, status: GuardianStatus) -> Registry:
    """Set a guardian's status. Raises :class:`ConfigurationError` for an unknown guardian, and for one that is revoked."""

    def with_status(text: str, node: yaml.Node, registry: Registry) -> str:
        guardian = registry.get(terminal_id)
        if guardian is None:
            raise ConfigurationError(f"no guardian {terminal_id}", path=path)
        index = [other.terminal_id for other in registry].index(terminal_id)
        value = _value_of(_value_of(node, "guardians").value[index], "status")
        if guardian.status is GuardianStatus.REVOKED and status is not GuardianStatus.REVOKED:
            # Whoever has the key of a revoked guardian must not come back by an edit; a new key is a new guardian.
            raise ConfigurationError(
                f"{terminal_id} is revoked for good: add a guardian with a new key", path=path, line=value.start_mark.line + 1
            )
        return text[: value.start_mark.index] + status.value + text[value.end_mark.index :]

    return _edit(path, with_status)


def as_entry(guardian: Guardian) -> dict[str, object]:
    """Return a guardian as its entry in the file: plain values but for ``registered_at``, a datetime."""
    entry: dict[str, object] = {
        "terminal_id": guardian.terminal_id,
        "public_key": format_public_key(guardian.public_key),
        "role": guardian.role,
        "description": guardian.description,
        "archetype": guardian.archetype,
        "bandwidth_quota_bps": guardian.bandwidth_quota_bps,
        "registered_at": guardian.registered_at,
        "status": guardian.status.value,
        "veto_power": guardian.veto_power,
        "specialization": list(guardian.specialization),
    }
    if guardian.aliases:
        entry["aliases"] = list(guardian.aliases)
    return entry


def _edit(path: Path, change: Callable[[str, yaml.Node, Registry], str]) -> Registry:
    path = path.resolve()
    with _lock(path):
        text = read_text(path)
        registry = parse_registry(text, path)
        changed = change(text, parse_document(text, path).node, registry)
        registry = parse_registry(changed, path)
        _replace(path, changed)
    return registry


def _with_guardian(text: str, node: yaml.Node, guardian: Guardian, path: Path) -> str:
    sequence = _value_of(node, "guardians")
    if not sequence.value:
        start, end = sequence.start_mark.index, sequence.end_mark.index
        return text[:start].rstrip(" ") + _block([as_entry(guardian)], "  ") + text[end:]
    if sequence.flow_style:
        raise ConfigurationError(
            "guardians is written in [brackets]: write one '- ' entry each to have more added",
            path=path,
            line=sequence.start_mark.line + 1,
        )
    # A block's own mark stands where the next thing begins, behind comments that belong to that; so does the mark of
    # a literal text, behind its line break. Hence the last scalar, and the end of the line on which it ends.
    line_end = text.find("\n", len(text[: _last_mark(sequence).index].rstrip()))
    at = len(text) if line_end < 0 else line_end
    return text[:at] + _block([as_entry(guardian)], " " * sequence.start_mark.column) + text[at:]


def _last_mark(node: yaml.Node) -> Any:
    """Where the last scalar or bracket of ``node`` ends."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return node.end_mark


def _value_of(mapping: yaml.Node, name: str) -> Any:
    return next(value for key, value in mapping.value if key.value == name)


def _block(entries: list[dict[str, object]], indent: str) -> str:
    """Write entries as a block sequence below what stands before it, without a line break at the end."""
    dumped: str = yaml.dump(entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return "".join(f"\n{indent}{line}" if line else "\n" for line in dumped.rstrip("\n").split("\n"))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the folder: the file itself is replaced, so that a lock on it would be on what is gone."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"its folder can't be opened: {error.strerror}", path=path) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    """Put ``text`` in place of the file, as a whole and durably: a reader sees the old one or the new one."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigurationError(f"can't be written: {error.strerror}", path=path) from error
