"""Who is a guardian: the registry file as immutable values.

What lives here: the fields of a guardian with their bounds, reading ``guardian-registry.yaml``, and look-ups. What
never does: changing the file (``registry_edit``), deciding anything about a request (``gates``).

A registry is whole or it is not there: any error refuses the file, with line and field, and the caller keeps the one
it has. Two guardians never share an identifier, an alias or a key, so that nobody counts twice.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    StringConstraints,
    TypeAdapter,
)

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.documents import MAX_CHARACTERS, Document, Location, field_name, parse_document, validate
from gatekeeperd.security.keys import parse_public_key

#: The capacity that the gatekeeper is measured with; a council has 8 to 25.
MAX_GUARDIANS: Final = 10_000
#: The whole budget of a node may be granted to one guardian, and no more.
MAX_QUOTA_BPS: Final = 100_000_000


class GuardianStatus(Enum):
    """Whether a guardian may be admitted. ``SUSPENDED`` can be lifted, ``REVOKED`` is for good."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


def _read_public_key(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be a text: ed25519: and 64 hexadecimal digits")  # noqa: TRY004  pydantic turns ValueErrors into complaints
    try:
        return parse_public_key(value)
    except ConfigurationError as error:
        raise ValueError(error.message) from error


TerminalId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^if://guardian/[a-z0-9]+(?:[._-][a-z0-9]+)*$", max_length=64)]
PublicKey: TypeAlias = Annotated[bytes, BeforeValidator(_read_public_key)]
#: One line without control characters: it is shown in tables and on the council page.
Line: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")]
#: Several lines; what would steer a terminal stays out here too, and so do the line breaks that only some readers know.
Paragraphs: TypeAlias = Annotated[
    str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]*$")
]
#: H.225.0 v7 gives an h323-ID 1 to 256 characters.
Alias: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardian:
    """One guardian as the registry states it. ``public_key`` is the raw Ed25519 key (32 octets).

    ``bandwidth_quota_bps`` (bit/s, both directions summed, as ARQ ``bandWidth``) bounds the sum of the guardian's calls.
    ``aliases`` are what it may register beside ``terminal_id``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    terminal_id: TerminalId
    public_key: PublicKey
    role: Line
    description: Paragraphs
    archetype: Line
    bandwidth_quota_bps: Annotated[StrictInt, Field(ge=1, le=MAX_QUOTA_BPS)]
    registered_at: Annotated[AwareDatetime, Strict()]
    status: GuardianStatus
    veto_power: StrictBool
    specialization: Annotated[tuple[Line, ...], Field(max_length=32)]
    aliases: Annotated[tuple[Alias, ...], Field(max_length=16)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    version: Literal[1]
    guardians: Annotated[list[Guardian], Field(max_length=MAX_GUARDIANS)]


_FILE: Final = TypeAdapter(_File)


class Registry:
    """The guardians of one file, in its order. Immutable; ``digest`` is the SHA-256 of the file in hexadecimal."""

    __slots__ = ("_by_id", "_owners", "digest")

    def __init__(self, guardians: tuple[Guardian, ...], digest: str) -> None:
        self.digest: Final = digest
        self._by_id: Final = {guardian.terminal_id: guardian for guardian in guardians}
        self._owners: Final = {name: guardian for guardian in guardians for name in _names(guardian)}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Guardian]:
        return iter(self._by_id.values())

    def get(self, terminal_id: str) -> Guardian | None:
        """Return the guardian of this exact ``terminal_id``, whatever its status."""
        return self._by_id.get(terminal_id)

    def owner_of(self, alias: str) -> Guardian | None:
        """Return the guardian to whom ``alias`` is reserved: its terminal_id or one of its aliases, in any case."""
        return self._owners.get(alias.casefold())


def load_registry(path: Path) -> Registry:
    """Read and validate a registry file.

    Raises :class:`ConfigurationError` and nothing else. It blocks for about 0.5 ms a guardian, most of it YAML.
    """
    return parse_registry(read_text(path), path)


def parse_registry(text: str, path: Path) -> Registry:
    """Validate the text of a registry file; ``path`` is for messages. Raises :class:`ConfigurationError`."""
    document = parse_document(text, path)
    guardians = validate(document, _FILE).guardians
    _refuse_duplicates(document, guardians)
    return Registry(tuple(guardians), hashlib.sha256(text.encode()).hexdigest())


def read_text(path: Path) -> str:
    """Read a file that decides who is admitted: bounded, UTF-8, and not one that everybody may write."""
    try:
        with path.open("rb") as file:
            # Who can write this file decides who is admitted.
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ConfigurationError("every user may write it: chmod o-w", path=path)
            octets = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", path=path) from error
    if len(octets) > MAX_CHARACTERS:
        raise ConfigurationError(f"larger than {MAX_CHARACTERS} octets", path=path)
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8", path=path, line=octets.count(b"\n", 0, error.start) + 1) from error


def _names(guardian: Guardian) -> Iterator[str]:
    yield guardian.terminal_id.casefold()
    for alias in guardian.aliases:
        yield alias.casefold()


def _refuse_duplicates(document: Document, guardians: list[Guardian]) -> None:
    """Anti-sybil: one key, one guardian; one name, one guardian."""
    seen: dict[Any, Location] = {}

    def claim(value: bytes | str, location: Location) -> None:
        first = seen.setdefault(value, location)
        if first is not location:
            raise ConfigurationError(
                f"is already in use at line {document.line(first)}",
                path=document.path,
                line=document.line(location),
                field=field_name(location),
            )

    for index, guardian in enumerate(guardians):
        claim(guardian.terminal_id, ("guardians", index, "terminal_id"))
        claim(guardian.public_key, ("guardians", index, "public_key"))
    for index, guardian in enumerate(guardians):
        for position, alias in enumerate(guardian.aliases):
            claim(alias.casefold(), ("guardians", index, "aliases", position))
