"""The facts that the gatekeeper holds, and their durable form.

What lives here: frozen dataclasses and their JSON. What never does: indexes over them (``state.py``) and decisions.
Wall-clock deadlines are never stored: durations are, and every timer starts anew after a restart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeAlias

from gatekeeperd.core.actions import Change, TransportAddress
from gatekeeperd.errors import StoreError
from gatekeeperd.policy.gates import CallType, Method
from gatekeeperd.security.session import Session

#: A decoded H.225.0 ``AliasAddress`` whose value is text: ``("h323-ID", "alice")``.
Alias: TypeAlias = tuple[str, str]


def _pack(value: Any) -> Any:
    """Write what JSON has no form for; enumerations and tuples it writes by itself."""
    match value:
        case bytes():
            return value.hex()
        case Session():
            return [value.key.hex(), value.challenge.hex(), value.epoch]
        case _:
            raise TypeError(f"a {type(value).__name__} has no stored form")


#: dataclasses.fields() costs more than all the rest of writing a fact, so its answer is kept by kind.
_names: dict[str, tuple[str, ...]] = {}


_write = json.JSONEncoder(separators=(",", ":"), default=_pack).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One durable thing with a ``KIND`` and a key that is unique within the kind."""

    KIND: ClassVar[str]

    @property
    def key(self) -> str:
        """Name of this fact within its kind."""
        raise NotImplementedError

    def stored(self) -> Change:
        """Write this fact."""
        names = _names.get(self.KIND) or _names.setdefault(self.KIND, tuple(item.name for item in fields(self)))
        return Change(self.KIND, self.key, _write({name: getattr(self, name) for name in names}).encode())

    def removed(self) -> Change:
        """Delete this fact."""
        return Change(self.KIND, self.key, None)

    @classmethod
    def load(cls, octets: bytes) -> Self:
        """Read a fact as :meth:`stored` wrote it.

        Raises:
            StoreError: the octets are not such a fact.

        """
        try:
            return cls(**cls._unpack(json.loads(octets)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StoreError(f"a stored {cls.KIND} can't be read: {error}") from error

    @classmethod
    def _unpack(cls, value: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Fact):
    """One registered endpoint.

    ``source`` is where its RRQ was seen to come from: what later claims to come from this endpoint is held to it.
    ``session`` is there only for guardians that signed.
    """

    KIND: ClassVar[str] = "registration"

    endpoint_identifier: str
    terminal_id: str | None
    method: Method
    source: TransportAddress
    call_signal_address: TransportAddress | None
    aliases: tuple[Alias, ...]
    time_to_live_s: int
    trace_id: str
    session: Session | None = None
    #: A challenge that the terminal was told since the last restart and has not used yet.
    next_challenge: bytes | None = None
    #: The alias whose password or voucher admitted a room system.
    credential_alias: str | None = None
    #: H.235 time stamp of the RRQ by which it registered with a password: no older one registers in its place.
    time_stamp: int = 0
    #: Which key of the guardian's it rests on (see ``enforcement.fingerprint``), where a guardian stands behind it.
    key_id: str | None = None
    #: session_id of the grant that vouched for it.
    grant: str | None = None
    almost_out_of_resources: bool = False

    @property
    def key(self) -> str:
        """The endpointIdentifier."""
        return self.endpoint_identifier

    @property
    def account(self) -> str:
        """Whose quota its calls count against: the guardian's, or its own where no guardian stands behind it."""
        return self.terminal_id or f"endpoint:{self.endpoint_identifier}"

    @property
    def proves_messages(self) -> bool:
        """Whether each of its messages carries a proof of all its octets."""
        return self.method in {Method.SIGNATURE, Method.H235_1}

    @property
    def promises_iack(self) -> bool:
        """Whether it is told ``willRespondToIRR``: h323plus then waits, and repeats, for IACKs that it never asked for."""
        return self.method is Method.SIGNATURE

    @classmethod
    def _unpack(cls, value: dict[str, Any]) -> dict[str, Any]:
        session = value["session"]
        signal = value["call_signal_address"]
        return value | {
            "method": Method(value["method"]),
            "source": _address(value["source"]),
            "call_signal_address": None if signal is None else _address(signal),
            "aliases": tuple((str(kind), str(text)) for kind, text in value["aliases"]),
            "next_challenge": value["next_challenge"] and bytes.fromhex(value["next_challenge"]),
            "session": session and Session(bytes.fromhex(session[0]), bytes.fromhex(session[1]), session[2]),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Fact):
    """One endpoint's admitted part in a call: what an ACF granted. A call between two endpoints has two."""

    KIND: ClassVar[str] = "call"

    session_id: str
    endpoint_identifier: str
    account: str
    terminal_id: str | None
    call_identifier: bytes
    conference_id: bytes
    call_reference_value: int
    answer_call: bool
    call_id: str
    call_type: CallType
    bandwidth_bps: int
    #: Where it goes, as the endpoint asked: an alias or an address.
    destination: str
    #: Room that it takes a place in, empty for a call between endpoints.
    room: str
    #: endpointIdentifier of the callee where that is one of ours.
    callee: str | None
    trace_id: str

    @property
    def key(self) -> str:
        """Both callIdentifier and endpointIdentifier: either end of a call may be ours."""
        return call_key(self.call_identifier, self.endpoint_identifier)

    @classmethod
    def _unpack(cls, value: dict[str, Any]) -> dict[str, Any]:
        return value | {
            "call_identifier": bytes.fromhex(value["call_identifier"]),
            "conference_id": bytes.fromhex(value["conference_id"]),
            "call_type": CallType(value["call_type"]),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Fact):
    """What a guardian bought for a room system over HTTPS: one registration and some calls, for a short time."""

    KIND: ClassVar[str] = "grant"

    session_id: str
    terminal_id: str
    call_id: str
    call_type: CallType
    has_pii: bool
    bandwidth_bps: int
    alias: str
    host: str
    lifetime_s: int
    calls_left: int
    registered: bool
    #: Which key signed it (see ``enforcement.fingerprint``).
    key_id: str
    trace_id: str

    @property
    def key(self) -> str:
        """The session_id."""
        return self.session_id

    @property
    def room(self) -> str:
        """Where its reservation counts until a call takes it over."""
        return self.call_id.casefold()

    @classmethod
    def _unpack(cls, value: dict[str, Any]) -> dict[str, Any]:
        return value | {"call_type": CallType(value["call_type"])}


def call_key(call_identifier: bytes, endpoint_identifier: str) -> str:
    """Key of the :class:`Call` of one endpoint."""
    return f"{call_identifier.hex()}:{endpoint_identifier}"


def _address(value: list[Any]) -> TransportAddress:
    host, port = value
    return str(host), int(port)
