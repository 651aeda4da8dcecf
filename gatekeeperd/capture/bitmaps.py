"""Aligned PER that remembers how long each extension bitmap was, and can write it as long again.

What lives here: an engine for :class:`gatekeeperd.wire.schema.Schema` that differs from ``wire.per`` in nothing else.
What never does: anything that a running gatekeeper uses.

A SEQUENCE with extension additions tells which are there by a bitmap, one bit for each addition that the *sender's*
version knows (X.691 clause 19.7). A sender of H.225.0 v4 writes a shorter one than our v7 for the very same value. To
show that a difference in octets is that and nothing more, decode with :data:`schema`'s codecs, which give the value
and the lengths, and encode the same value with the same lengths: the octets must come back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from gatekeeperd.wire import per, per_types
from gatekeeperd.wire.per import Choice, Enumerated, Misfit, SequenceOf
from gatekeeperd.wire.per_bits import MAX_FIELD_BITS, Reader, Writer
from gatekeeperd.wire.schema import Schema

__all__ = ["Bitmap", "Choice", "Enumerated", "Misfit", "Sequence", "SequenceOf", "Traced", "decode", "encode", "schema"]


class Bitmap(NamedTuple):
    """One extension bitmap as it came: its bits, and how many H.225.0 v7 or our H.245 would write."""

    width: int
    known: int


class Traced(NamedTuple):
    """A decoded value and its extension bitmaps, in the order in which they stand in the octets."""

    value: Any
    bitmaps: tuple[Bitmap, ...]


class _TracingReader(Reader):
    __slots__ = ("bitmaps",)

    def __init__(self, data: bytes, items: int) -> None:
        super().__init__(data, items)
        self.bitmaps: list[Bitmap] = []


class _ReplayingWriter(Writer):
    __slots__ = ("bitmaps",)

    def __init__(self, bitmaps: Iterator[Bitmap]) -> None:
        super().__init__()
        self.bitmaps = bitmaps


class Sequence(per.Sequence):
    """SEQUENCE that notes its bitmap's length, and writes the one that was noted."""

    __slots__ = ()

    def _decode_extensions(self, reader: Reader, fields: dict[str, Any]) -> None:
        start = reader.pos
        width = reader.small() + 1
        # A bitmap without any bit set tells of no addition: encoders leave it out, so it has no turn in replay.
        if width <= MAX_FIELD_BITS and reader.bits(width):
            cast(_TracingReader, reader).bitmaps.append(Bitmap(width, len(self.extensions)))
        reader.pos = start
        super()._decode_extensions(reader, fields)

    def _encode_extensions(self, writer: Writer, slots: list[Any], present: int, unknown: dict[int, Any]) -> None:  # noqa: ARG002
        width = next(cast(_ReplayingWriter, writer).bitmaps).width
        additions = dict(enumerate(slots[self.root_count :])) | unknown
        there = [additions.get(number, per.ABSENT) is not per.ABSENT for number in range(width)]
        writer.bits(width - 1, 7)
        for bit in there:
            writer.bits(bit, 1)
        for number, bit in enumerate(there):
            if bit and number < len(self.extensions):
                start = writer.open()
                self.extensions[number][1].encode(writer, additions[number])
                writer.close(start)
            elif bit:
                per.encode_unknown(writer, additions[number])


def decode(node: per_types.Node, data: bytes, items: int) -> Traced:
    """Decode one whole message. Raises Misfit."""
    reader = _TracingReader(data, items)
    value = node.decode(reader)
    reader.finish()
    return Traced(value, tuple(reader.bitmaps))


def encode(node: per_types.Node, traced: Traced) -> bytes:
    """Encode one whole message with bitmaps of the lengths that :func:`decode` found. Raises Misfit."""
    writer = _ReplayingWriter(iter(traced.bitmaps))
    node.encode(writer, traced.value)
    writer.align()
    return bytes(writer.out) or b"\0"


#: The types of the tables over this engine: their codecs decode to :class:`Traced` and encode from it.
schema: Final = Schema(sys.modules[__name__], per_types)
