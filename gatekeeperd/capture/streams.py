"""One direction of a TCP connection, put back into order from captured segments.

What lives here: sequence numbers, retransmissions, what came out of order, what never came.
What never does: messages; those who read the octets find their boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatekeeperd.capture.packets import Segment

#: Octets, and segments, held behind a hole before it counts as a gap. A window of signalling is smaller.
MAX_HELD_OCTETS: Final = 1 << 18
MAX_HELD_SEGMENTS: Final = 256

_MODULUS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Octets in their place in the stream, and the segment that brought them.

    ``gap`` octets before them are missing from the capture, 0 where they join on; ``restart`` marks the first octets
    of a new connection between the same addresses.
    """

    segment: Segment
    octets: bytes
    gap: int = 0
    restart: bool = False


class Stream:
    """Put segments in with :meth:`add`; each gives the pieces that are in order now. At the end call :meth:`close`."""

    def __init__(self) -> None:
        self._initial: int | None = None
        self._next = 0
        self._held: dict[int, Segment] = {}
        self._gap = 0
        self._restart = False

    def add(self, segment: Segment) -> Iterator[Piece]:
        """Give what is in order now. A hole that too much is waiting behind is given up and told as a gap."""
        start = (segment.sequence + segment.begins) % _MODULUS
        if self._initial is None or (segment.begins and start != self._initial):
            # Without a SYN the capture began in the middle of the connection: its first octets are as good a start.
            yield from self.close()
            self._restart = self._initial is not None
            self._initial = self._next = start
            self._gap = 0
        held = self._held.get(start)
        if segment.octets and (held is None or len(held.octets) < len(segment.octets)):
            self._held[start] = segment
        yield from self._in_order()
        while len(self._held) > MAX_HELD_SEGMENTS or sum(len(held.octets) for held in self._held.values()) > MAX_HELD_OCTETS:
            yield from self._skip()

    def close(self) -> Iterator[Piece]:
        """Give what is still held, each hole before it told as a gap."""
        while self._held:
            yield from self._skip()

    def _ahead(self, start: int) -> int:
        """Count the octets from the one that is due to ``start``; negative where ``start`` was given already."""
        return (start - self._next + _MODULUS // 2) % _MODULUS - _MODULUS // 2

    def _in_order(self) -> Iterator[Piece]:
        while self._held:
            start = min(self._held, key=self._ahead)
            behind = -self._ahead(start)
            if behind < 0:
                return
            segment = self._held.pop(start)
            octets = segment.octets[behind:]
            if octets:
                yield Piece(segment, octets, self._gap, self._restart)
                # What the snap length cut off will not come any more.
                self._gap, self._restart = segment.missing, False
                self._next = (self._next + len(octets) + segment.missing) % _MODULUS

    def _skip(self) -> Iterator[Piece]:
        """Give up the hole before the first held segment."""
        first = min(self._held, key=self._ahead)
        self._gap += self._ahead(first)
        self._next = first
        yield from self._in_order()
