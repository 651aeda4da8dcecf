"""What a state machine asks of its shell: "commit this, then send that".

What lives here: the vocabulary between ``core/`` (which decides) and ``net/`` (which has sockets and a disk).
What never does: any decision.

The shell carries actions out in order. A :class:`Commit` is durable (state and witness records, as one) before
any of its ``then`` leaves; that is the only way an answer that tells of a change can be sent at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

#: IP address literal and port of a UDP endpoint, as ``socket`` gives them (IPv6 without scope and flow).
TransportAddress: TypeAlias = tuple[str, int]

#: What canonical JSON can carry here. No floats: RFC 8785 number formatting is not worth its risk in a hash chain.
Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"


class Stream(Enum):
    """The witness file that a record goes to. One index and one hash chain run through all three."""

    RAS = "ras"
    GATEWAY = "gateway"
    HA = "ha"


@dataclass(frozen=True, slots=True)
class Send:
    """One datagram to one address. ``data`` is a whole RAS message.

    ``answers`` names the request that this answers (``registrationRequest`` ...) and is empty for our own requests:
    the shell labels its latency histogram with it.
    """

    data: bytes
    to: TransportAddress
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One durable fact: ``kind`` and ``key`` name it, ``value`` is its JSON octets, ``None`` deletes it."""

    kind: str
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """One witness record before it has an index, a time and a place in the chain.

    ``trace_id`` is 32 hexadecimal digits and follows one guardian's business through all logs. ``payload`` holds no
    personal data in clear: who makes the record hashes or redacts it first.
    """

    event: str
    trace_id: str
    payload: Mapping[str, Json]
    stream: Stream = Stream.RAS


@dataclass(frozen=True, slots=True)
class Commit:
    """Make ``changes`` and ``records`` durable as one, then send ``then`` in order, then tell the core ``ticket``."""

    ticket: int
    changes: tuple[Change, ...] = ()
    records: tuple[Record, ...] = ()
    then: tuple[Send, ...] = field(default=())


Action: TypeAlias = Send | Commit
