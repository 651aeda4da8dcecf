"""The states of a terminal and the ways between them.

What lives here: the transition table, as data. What never does: anything that makes a transition.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class State(Enum):
    """Where the terminal stands."""

    IDLE = auto()
    DISCOVERING = auto()
    REGISTERING = auto()
    REGISTERED = auto()
    #: The gatekeeper is dead; an alternate that shares its registrations is asked to carry ours on.
    RESUMING = auto()
    UNREGISTERING = auto()
    #: Nobody answered; discovery starts again after a pause.
    WAITING = auto()


TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.IDLE: frozenset({State.DISCOVERING}),
        State.DISCOVERING: frozenset({State.REGISTERING, State.WAITING, State.IDLE}),
        State.REGISTERING: frozenset({State.REGISTERED, State.DISCOVERING, State.WAITING, State.IDLE}),
        State.REGISTERED: frozenset({State.RESUMING, State.DISCOVERING, State.UNREGISTERING, State.IDLE}),
        State.RESUMING: frozenset({State.REGISTERED, State.DISCOVERING, State.IDLE}),
        State.UNREGISTERING: frozenset({State.IDLE}),
        State.WAITING: frozenset({State.DISCOVERING, State.IDLE}),
    }
)
