"""Aligned PER, lowest layer (ITU-T X.691, ALIGNED variant): a reader and a writer of bit fields, octets and lengths.

What lives here: positions and bounds. Every read is checked against the end of the field that it belongs to, and the
reader carries the budget that a hostile message is held to.
What never does: knowledge of any type. That is ``per_types`` and ``per``.

This file, ``per_types`` and ``per`` run interpreted as they are, and compiled by Cython with the C types that
``_compiled/*.pxd`` add (docs/adr/0001-codec.md). Hence their plain style: each line is chosen to be quick in both.
"""

from __future__ import annotations

__all__ = ["MAX_DEPTH", "MAX_FIELD_BITS", "Misfit", "Reader", "Writer"]

# Constructed types within each other. The deepest captured message has 10 levels; types that contain themselves (H.245
# DataType, H.225.0 EnumeratedParameter) would otherwise let a few hundred octets exhaust the stack.
MAX_DEPTH = 40

# The widest bit field that is read at once: with up to 7 bits before it, it still fits 64 bits. Only the bitmap of
# extension additions comes near, and this bounds how many a type may have; the longest of H.225.0 v7 has 28.
MAX_FIELD_BITS = 56


class Misfit(Exception):
    """Octets and types do not fit; ``schema`` names the error. ``path`` grows from the innermost field outwards."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str] = []

    def __str__(self) -> str:
        """Name the place and what is wrong there: ``registrationRequest.requestSeqNum: 70000 is not in 1..65535``."""
        where = "".join(reversed(self.path)).lstrip(".")
        return f"{where}: {self.message}" if where else self.message


class Reader:
    """A position in the octets of one message, moving forward only.

    ``pos`` and ``end`` count bits from the start of ``data``. ``items`` is how many fields may still be decoded.
    """

    __slots__ = ("data", "depth", "end", "items", "pos")

    def __init__(self, data: bytes, items: int) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data) * 8
        self.depth = 0
        self.items = items

    def enter(self, items: int) -> None:
        """Go one level down into a type that has ``items`` fields or elements; the caller takes ``depth`` back down."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Misfit(f"nested deeper than {MAX_DEPTH}")
        self.spend(items)

    def spend(self, items: int) -> None:
        """Take ``items`` fields from the budget."""
        self.items -= items
        if self.items < 0:
            raise Misfit("more fields than a message may have")

    def bits(self, count: int) -> int:
        """Read a bit field of at most ``MAX_FIELD_BITS``."""
        if count == 0:
            return 0
        pos = self.pos
        stop = pos + count
        if stop > self.end:
            raise Misfit("truncated")
        self.pos = stop
        data = self.data
        index = pos >> 3
        last = (stop - 1) >> 3
        value = data[index] & (0xFF >> (pos & 7))
        while index < last:
            index += 1
            value = (value << 8) | data[index]
        return value >> (-stop & 7)

    def octets(self, count: int) -> bytes:
        """Read ``count`` octets, from the next octet boundary on unless there are none (X.691 clause 11.2.6)."""
        if count == 0:
            return b""
        start = (self.pos + 7) >> 3
        stop = start + count
        if stop * 8 > self.end:
            raise Misfit("truncated")
        self.pos = stop * 8
        return self.data[start:stop]

    def length(self) -> int:
        """Read a general length determinant (X.691 clause 11.9.3.5): 0 to 16,383.

        The form for more, which comes in fragments of 16 Ki, is refused: no field of H.323 is that long.
        """
        index = (self.pos + 7) >> 3
        if (index + 1) * 8 > self.end:
            raise Misfit("truncated")
        value = self.data[index]
        if value < 0x80:
            self.pos = (index + 1) * 8
            return value
        if value >= 0xC0:
            raise Misfit("fragmented: 16 Ki or longer")
        if (index + 2) * 8 > self.end:
            raise Misfit("truncated")
        self.pos = (index + 2) * 8
        return (value & 0x3F) << 8 | self.data[index + 1]

    def small(self) -> int:
        """Read a normally small number (X.691 clause 11.6), which numbers extension additions: 0 to ``MAX_FIELD_BITS`` - 1."""
        value = self.bits(7)
        if value >= MAX_FIELD_BITS:
            raise Misfit(f"extension number of {MAX_FIELD_BITS} or more")
        return value

    def finish(self) -> None:
        """Check that only zero octets follow up to ``end``, and go there.

        Peers pad: X.691 clause 11.1 fills the last octet, and some stacks round datagrams up. Anything else behind a
        complete value is no padding, and no version of H.323 puts extensions there: refused.
        """
        index = (self.pos + 7) >> 3
        if index * 8 < self.end and self.data.count(0, index, self.end >> 3) != (self.end >> 3) - index:
            raise Misfit("octets after the end")
        self.pos = self.end


class Writer:
    """The octets of one message so far, and up to 7 bits (``pending``, held in ``tail``) that do not fill an octet yet."""

    __slots__ = ("depth", "out", "pending", "tail")

    def __init__(self) -> None:
        self.out = bytearray()
        self.tail = 0
        self.pending = 0
        self.depth = 0

    def enter(self) -> None:
        """Go one level down; the caller takes ``depth`` back up. Ends values that contain themselves."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Misfit(f"nested deeper than {MAX_DEPTH}")

    def bits(self, value: int, count: int) -> None:
        """Write a bit field of at most ``MAX_FIELD_BITS``; ``value`` is known to fit."""
        tail = (self.tail << count) | value
        pending = self.pending + count
        while pending >= 8:
            pending -= 8
            self.out.append((tail >> pending) & 0xFF)
        self.tail = tail & ((1 << pending) - 1)
        self.pending = pending

    def align(self) -> None:
        """Fill the last octet with zero bits."""
        if self.pending:
            self.out.append((self.tail << (8 - self.pending)) & 0xFF)
            self.tail = 0
            self.pending = 0

    def octets(self, value: bytes) -> None:
        """Write octets, from the next octet boundary on unless there are none."""
        if value:
            self.align()
            self.out += value

    def length(self, value: int) -> None:
        """Write a general length determinant."""
        self.align()
        if value < 0x80:
            self.out.append(value)
        elif value < 0x4000:
            self.out.append(0x80 | value >> 8)
            self.out.append(value & 0xFF)
        else:
            raise Misfit("16 Ki or longer: would need fragments")

    def open(self) -> int:
        """Begin an open type (X.691 clause 11.2): a length that is known at :meth:`close` and the value. Returns its place."""
        self.align()
        self.out.append(0)
        return len(self.out)

    def close(self, start: int) -> None:
        """End the open type that began at ``start``; a value of no bits is one zero octet (X.691 clause 11.1.3)."""
        self.align()
        length = len(self.out) - start
        if length == 0:
            self.out.append(0)
            length = 1
        if length < 0x80:
            self.out[start - 1] = length
        elif length < 0x4000:
            self.out[start - 1] = length & 0xFF
            self.out.insert(start - 1, 0x80 | length >> 8)
        else:
            raise Misfit("16 Ki or longer: would need fragments")
