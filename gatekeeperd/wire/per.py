"""Aligned PER, the types with parts (X.691): SEQUENCE, SEQUENCE OF, CHOICE, ENUMERATED, and whole messages.

What lives here: how parts follow each other, which are there, and how parts that this version does not know survive.
What never does: any particular message. The tables have those; ``schema`` builds them from these classes.

Parts unknown to H.225.0 v7 keep their octets: a field ``_ext_N`` of a SEQUENCE, ``("_ext_N", octets)`` in a CHOICE, ``_ext_N``
as an ENUMERATED, N counting the type's extension additions from 0. All of them are written back as they came.
"""

from __future__ import annotations

from typing import Any

from .per_bits import MAX_FIELD_BITS, Misfit, Reader, Writer
from .per_types import Node, Sized, checked_bytes, shown

__all__ = ["Choice", "Enumerated", "Misfit", "Sequence", "SequenceOf", "decode", "encode"]

UNKNOWN = "_ext_"
ABSENT = object()
# In a SEQUENCE's preamble, above any bit that is read from the wire: stands for "this field is not OPTIONAL".
ALWAYS = 1 << 60
FIRST_EXTENSION = 1 << (MAX_FIELD_BITS - 1)


def unknown_number(name: Any, known: int) -> int:
    """Return N of ``_ext_N``; -1 where ``name`` is no such name or N is one that this version knows."""
    if isinstance(name, str) and name.startswith(UNKNOWN) and name[5:].isdecimal() and len(name) < 8:
        number = int(name[5:])
        if known <= number < MAX_FIELD_BITS:
            return number
    return -1


def decode_open(reader: Reader, node: Node) -> Any:
    """Read an open type (X.691 clause 11.2): a length, then a value that must not run past it."""
    length = reader.length()
    end = reader.end
    stop = reader.pos + length * 8
    if stop > end:
        raise Misfit("truncated")
    reader.end = stop
    value = node.decode(reader)
    reader.finish()
    reader.end = end
    return value


def encode_unknown(writer: Writer, value: Any) -> None:
    """Write the octets of a part that this version does not know."""
    octets = checked_bytes(value)
    writer.length(len(octets))
    writer.octets(octets)


class Enumerated(Node):
    """ENUMERATED (X.691 clause 14): the item's name."""

    __slots__ = ("extensible", "names", "numbers", "root_count", "width")

    def __init__(self, root: tuple[str, ...], extensions: tuple[str, ...] | None) -> None:
        self.names = root + (extensions or ())
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.root_count = len(root)
        self.width = (len(root) - 1).bit_length()
        self.extensible = extensions is not None

    def decode(self, reader: Reader) -> Any:
        """Read a name."""
        if self.extensible and reader.bits(1):
            number = reader.small()
            if number + self.root_count < len(self.names):
                return self.names[number + self.root_count]
            return f"{UNKNOWN}{number}"
        number = reader.bits(self.width)
        if number >= self.root_count:
            raise Misfit(f"no item number {number}")
        return self.names[number]

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a name."""
        number = self.numbers.get(value, -1) if isinstance(value, str) else -1
        if 0 <= number < self.root_count:
            if self.extensible:
                writer.bits(0, 1)
            writer.bits(number, self.width)
            return
        if number < 0:
            number = unknown_number(value, len(self.names) - self.root_count) if self.extensible else -1
            if number < 0:
                raise Misfit(f"no item {shown(value)}")
        else:
            number -= self.root_count
        writer.bits(0x80 | number, 8)


class SequenceOf(Sized):
    """SEQUENCE OF and SET OF (X.691 clauses 20 and 22): a list."""

    __slots__ = ("item",)

    def __init__(self, low: int, high: int, item: Node) -> None:
        super().__init__(low, high, 0)
        self.item = item

    def decode(self, reader: Reader) -> Any:
        """Read a list."""
        count = self.read_size(reader)
        reader.enter(count)
        item = self.item
        values: list[Any] = []
        try:
            for _ in range(count):
                values.append(item.decode(reader))  # noqa: PERF401 - the length of values names the place of an error
        except Misfit as misfit:
            misfit.path.append(f"[{len(values)}]")
            raise
        reader.depth -= 1
        return values

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a list (or tuple)."""
        if not isinstance(value, (list, tuple)):
            raise Misfit(f"not a list: {shown(value)}")
        writer.enter()
        self.write_size(writer, len(value))
        item = self.item
        index = 0
        try:
            for element in value:
                item.encode(writer, element)
                index += 1
        except Misfit as misfit:
            misfit.path.append(f"[{index}]")
            raise
        writer.depth -= 1


class Choice(Node):
    """CHOICE (X.691 clause 23): ``(name, value)``."""

    __slots__ = ("extensible", "extensions", "numbers", "root", "root_count", "width")

    def __init__(self) -> None:
        self.root: tuple[tuple[str, Node], ...] = ()
        self.extensions: tuple[tuple[str, Node], ...] = ()

    def define(self, root: list[tuple[str, Node]], extensions: list[tuple[str, Node]] | None) -> None:
        """Set the alternatives; apart from ``__init__`` because a type may contain itself."""
        self.root = tuple(root)
        self.extensions = tuple(extensions or ())
        self.extensible = extensions is not None
        self.root_count = len(root)
        self.width = (len(root) - 1).bit_length()
        self.numbers = {name: number for number, (name, _) in enumerate(self.root + self.extensions)}

    def decode(self, reader: Reader) -> Any:
        """Read ``(name, value)``."""
        reader.enter(1)
        if self.extensible and reader.bits(1):
            value = self._decode_extension(reader)
        else:
            number = reader.bits(self.width)
            if number >= self.root_count:
                raise Misfit(f"no alternative number {number}")
            name, node = self.root[number]
            try:
                value = (name, node.decode(reader))
            except Misfit as misfit:
                misfit.path.append("." + name)
                raise
        reader.depth -= 1
        return value

    def _decode_extension(self, reader: Reader) -> Any:
        number = reader.small()
        if number >= len(self.extensions):
            return (f"{UNKNOWN}{number}", reader.octets(reader.length()))
        name, node = self.extensions[number]
        try:
            return (name, decode_open(reader, node))
        except Misfit as misfit:
            misfit.path.append("." + name)
            raise

    def encode(self, writer: Writer, value: Any) -> None:
        """Write ``(name, value)``."""
        if not isinstance(value, tuple) or len(value) != 2:
            raise Misfit(f"not a tuple of name and value: {shown(value)}")
        name, content = value
        writer.enter()
        number = self.numbers.get(name, -1) if isinstance(name, str) else -1
        try:
            if number < 0:
                number = unknown_number(name, len(self.extensions)) if self.extensible else -1
                if number < 0:
                    raise Misfit("no such alternative")
                writer.bits(0x80 | number, 8)
                encode_unknown(writer, content)
            elif number < self.root_count:
                if self.extensible:
                    writer.bits(0, 1)
                writer.bits(number, self.width)
                node = self.root[number][1]
                node.encode(writer, content)
            else:
                number -= self.root_count
                writer.bits(0x80 | number, 8)
                node = self.extensions[number][1]
                start = writer.open()
                node.encode(writer, content)
                writer.close(start)
        except Misfit as misfit:
            misfit.path.append("." + (name if isinstance(name, str) else shown(name)))
            raise
        writer.depth -= 1


class Sequence(Node):
    """SEQUENCE (X.691 clause 19): a dict of the fields that are there."""

    __slots__ = ("extensible", "extensions", "field_count", "numbers", "preamble_width", "root", "root_count")

    def __init__(self) -> None:
        self.root: tuple[tuple[str, Node, int], ...] = ()
        self.extensions: tuple[tuple[str, Node], ...] = ()

    def define(self, root: list[tuple[str, Node, bool]], extensions: list[tuple[str, Node]] | None) -> None:
        """Set the fields ``(name, type, whether OPTIONAL)``; apart from ``__init__`` because a type may contain itself."""
        self.extensible = extensions is not None
        self.extensions = tuple(extensions or ())
        optional_count = sum(optional for _, _, optional in root)
        self.preamble_width = optional_count + self.extensible
        bit = 1 << optional_count
        fields = []
        for name, node, optional in root:
            if optional:
                bit >>= 1
            fields.append((name, node, bit if optional else ALWAYS))
        self.root = tuple(fields)
        self.root_count = len(root)
        self.field_count = self.root_count + len(self.extensions)
        names = [name for name, _, _ in root] + [name for name, _ in self.extensions]
        self.numbers = {name: number for number, name in enumerate(names)}

    def decode(self, reader: Reader) -> Any:
        """Read a dict."""
        reader.enter(self.root_count)
        preamble = reader.bits(self.preamble_width) | ALWAYS
        fields: dict[str, Any] = {}
        name = ""
        try:
            for name, node, bit in self.root:
                if preamble & bit:
                    fields[name] = node.decode(reader)
        except Misfit as misfit:
            misfit.path.append("." + name)
            raise
        if self.extensible and preamble >> (self.preamble_width - 1) & 1:
            self._decode_extensions(reader, fields)
        reader.depth -= 1
        return fields

    def _decode_extensions(self, reader: Reader, fields: dict[str, Any]) -> None:
        count = reader.small() + 1
        reader.spend(count)
        present = reader.bits(count)
        known = len(self.extensions)
        for number in range(count):
            if present >> (count - 1 - number) & 1:
                if number < known:
                    name, node = self.extensions[number]
                    try:
                        fields[name] = decode_open(reader, node)
                    except Misfit as misfit:
                        misfit.path.append("." + name)
                        raise
                else:
                    fields[f"{UNKNOWN}{number}"] = reader.octets(reader.length())

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a dict."""
        if not isinstance(value, dict):
            raise Misfit(f"not a dict: {shown(value)}")
        writer.enter()
        slots = [ABSENT] * self.field_count
        unknown: dict[int, Any] = {}
        present = self._place(value, slots, unknown)
        writer.bits(self._preamble(slots, present), self.preamble_width)
        index = 0
        try:
            for _, node, _ in self.root:
                content = slots[index]
                if content is not ABSENT:
                    node.encode(writer, content)
                index += 1
        except Misfit as misfit:
            misfit.path.append("." + self.root[index][0])
            raise
        if present:
            self._encode_extensions(writer, slots, present, unknown)
        writer.depth -= 1

    def _place(self, fields: dict[str, Any], slots: list[Any], unknown: dict[int, Any]) -> int:
        """Put each field where it belongs; return the bitmap of extension additions, the first one in the highest bit."""
        root_count = self.root_count
        numbers = self.numbers
        present = 0
        for name, content in fields.items():
            number = numbers.get(name, -1)
            if number < 0:
                number = unknown_number(name, len(self.extensions)) if self.extensible else -1
                if number < 0:
                    raise Misfit(f"no field {shown(name)}")
                unknown[number] = content
                present |= FIRST_EXTENSION >> number
            else:
                slots[number] = content
                if number >= root_count:
                    present |= FIRST_EXTENSION >> (number - root_count)
        return present

    def _preamble(self, slots: list[Any], present: int) -> int:
        """Return the extension bit and those of the OPTIONAL fields; a field that is neither there nor OPTIONAL is missing."""
        preamble = 1 << (self.preamble_width - 1) if present else 0
        index = 0
        for name, _, bit in self.root:
            if slots[index] is not ABSENT:
                if bit != ALWAYS:
                    preamble |= bit
            elif bit == ALWAYS:
                raise Misfit(f"field {name} is missing")
            index += 1  # noqa: SIM113 - enumerate is slower, compiled
        return preamble

    def _encode_extensions(self, writer: Writer, slots: list[Any], present: int, unknown: dict[int, Any]) -> None:
        known = len(self.extensions)
        count = max(known, max(unknown) + 1) if unknown else known
        writer.bits(count - 1, 7)
        writer.bits(present >> (MAX_FIELD_BITS - count), count)
        for number in range(count):
            if not present & (FIRST_EXTENSION >> number):
                continue
            if number >= known:
                encode_unknown(writer, unknown[number])
                continue
            name, node = self.extensions[number]
            start = writer.open()
            try:
                node.encode(writer, slots[self.root_count + number])
                writer.close(start)
            except Misfit as misfit:
                misfit.path.append("." + name)
                raise


def decode(node: Node, data: bytes, items: int) -> Any:
    """Decode one whole message that may have ``items`` fields. Raises :class:`Misfit`."""
    reader = Reader(data, items)
    value = node.decode(reader)
    reader.finish()
    return value


def encode(node: Node, value: Any) -> bytes:
    """Encode one whole message. Raises :class:`Misfit`."""
    writer = Writer()
    node.encode(writer, value)
    writer.align()
    return bytes(writer.out) or b"\0"
