"""Whom to ask next: the configured gatekeepers, and the alternates that gatekeepers named.

What lives here: the order of attempts. What never does: PDUs, timers, trust (that is the service key's alone).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import first_address


@dataclass(frozen=True, slots=True)
class Alternate:
    """One ``AlternateGK`` (H.225.0 v7 section 7.6). ``priority`` 0 is tried first."""

    address: TransportAddress
    gatekeeper_identifier: str | None
    need_to_register: bool
    priority: int


#: More alternates than this are not remembered: a GCF is not signed.
MAX_ALTERNATES = 8


def read_alternates(values: Iterable[dict[str, Any]]) -> tuple[Alternate, ...]:
    """Return the alternates of a GCF, RCF or ``AltGKInfo`` that can be reached over IP, best first."""
    found = []
    for value in values:
        address = first_address([value["rasAddress"]])
        if address is not None:
            found.append(Alternate(address, value.get("gatekeeperIdentifier"), value["needToRegister"], value["priority"]))
    return tuple(sorted(found, key=lambda alternate: alternate.priority)[:MAX_ALTERNATES])


def rounds(
    alternates: Iterable[Alternate], configured: Iterable[TransportAddress], count: int
) -> list[tuple[TransportAddress, str | None]]:
    """Return whom to send GRQ to, in order: everyone once, then everyone again, ``count`` times."""
    everyone: dict[TransportAddress, str | None] = {}
    for alternate in alternates:
        everyone.setdefault(alternate.address, alternate.gatekeeper_identifier)
    for address in configured:
        everyone.setdefault(address, None)
    return list(everyone.items()) * count
