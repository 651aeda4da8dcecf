"""Aligned PER, the types without parts (X.691): numbers, strings, identifiers.

What lives here: one class a kind of type; an instance is one row of the tables with its bounds. Each turns bits into a
plain Python value and back, and refuses what the bounds forbid with :class:`Misfit`.
What never does: names of fields, which ``per`` knows.
"""

from __future__ import annotations

from codecs import utf_16_be_encode  # str.encode looks the codec up by name each time: twice the time
from functools import lru_cache
from typing import Any

from .per_bits import MAX_FIELD_BITS, Misfit, Reader, Writer

# Octets of an INTEGER without upper bound. H.323 uses it for counters and key sizes; the bound keeps numbers printable
# (Python refuses to print more than 4,300 digits) and arithmetic on them quick.
MAX_INTEGER_OCTETS = 64

# Octets of an OBJECT IDENTIFIER. Real ones have 5 to 12; X.667's UUID-based ones, the longest in use, have 21.
MAX_OID_OCTETS = 64

# What an object identifier takes from a message's budget of fields beyond its own field: one that was not seen before
# takes that many times as long as any other field.
OID_ITEMS = 3

# Distinct object identifiers kept decoded. Real traffic uses some thirty; a flood of made-up ones costs only misses.
OID_CACHE_SIZE = 256


def shown(value: object) -> str:
    """Return a value as an error message may show it: short, whatever was put in."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"  # Python refuses to print very long ones
    text = repr(value) if isinstance(value, (str, bytes, int, float)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


class Node:
    """One type: decodes itself from a reader, and encodes a value into a writer."""

    __slots__ = ()

    def decode(self, reader: Reader) -> Any:
        """Read one value."""
        raise NotImplementedError

    def encode(self, writer: Writer, value: Any) -> None:
        """Write one value."""
        raise NotImplementedError


class Null(Node):
    """NULL: None, in no bits."""

    __slots__ = ()

    def decode(self, reader: Reader) -> Any:  # noqa: ARG002
        """Read nothing."""
        return None

    def encode(self, writer: Writer, value: Any) -> None:  # noqa: ARG002
        """Write nothing, for None only."""
        if value is not None:
            raise Misfit(f"NULL is None, not {shown(value)}")


class Boolean(Node):
    """BOOLEAN: one bit."""

    __slots__ = ()

    def decode(self, reader: Reader) -> Any:
        """Read a bool."""
        return reader.bits(1) == 1

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a bool."""
        if value is True:
            writer.bits(1, 1)
        elif value is False:
            writer.bits(0, 1)
        else:
            raise Misfit(f"not a bool: {shown(value)}")


def checked_int(value: Any) -> int:
    """Return an int that is no bool."""
    if not isinstance(value, int) or value is True or value is False:
        raise Misfit(f"not an int: {shown(value)}")
    return value


def checked_bytes(value: Any) -> bytes:
    """Return bytes; a bytearray is copied."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, bytearray):
        raise Misfit(f"not bytes: {shown(value)}")
    return bytes(value)


class ConstrainedInteger(Node):
    """INTEGER with both bounds within 64 bits (X.691 clause 11.5.7), also used for sizes.

    A span of up to 255 values takes the bits it needs, 256 one aligned octet, up to 65,536 two, more a count and octets.
    """

    __slots__ = ("aligned", "count_bits", "high", "low", "width")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        span = high - low + 1
        self.aligned = span > 0xFF
        self.count_bits = 0
        if span <= 0xFF:
            self.width = (span - 1).bit_length()
        elif span <= 0x10000:
            self.width = 8 if span == 0x100 else 16
        else:
            self.width = ((span - 1).bit_length() + 7) // 8
            self.count_bits = (self.width - 1).bit_length()

    def read(self, reader: Reader) -> int:
        """Read a number within the bounds."""
        width = self.width
        if self.count_bits:
            count = reader.bits(self.count_bits) + 1
            if count > width:
                raise Misfit("number longer than its bounds allow")
            width = count * 8
        if self.aligned:
            reader.pos = (reader.pos + 7) & -8
        value = self.low + reader.bits(width)
        if value > self.high:
            raise Misfit(f"{value} is not in {self.low}..{self.high}")
        return value

    def write(self, writer: Writer, value: int) -> None:
        """Write a number that is known to be within the bounds."""
        value -= self.low
        width = self.width
        if self.count_bits:
            count = 1
            while value >> (count * 8):
                count += 1
            writer.bits(count - 1, self.count_bits)
            width = count * 8
        if self.aligned:
            writer.align()
        writer.bits(value, width)

    def decode(self, reader: Reader) -> Any:
        """Read an int."""
        return self.read(reader)

    def encode(self, writer: Writer, value: Any) -> None:
        """Write an int."""
        number = checked_int(value)
        if not self.low <= number <= self.high:
            raise Misfit(f"{shown(number)} is not in {self.low}..{self.high}")
        self.write(writer, number)


class Integer(Node):
    """INTEGER without bounds (X.691 clause 11.8): a length and two's complement octets."""

    __slots__ = ()

    def decode(self, reader: Reader) -> Any:
        """Read an int of at most ``MAX_INTEGER_OCTETS``."""
        count = reader.length()
        if not 0 < count <= MAX_INTEGER_OCTETS:
            raise Misfit(f"number of {count} octets")
        return int.from_bytes(reader.octets(count), "big", signed=True)

    def encode(self, writer: Writer, value: Any) -> None:
        """Write an int."""
        number = checked_int(value)
        count = ((number if number >= 0 else ~number).bit_length() >> 3) + 1
        if count > MAX_INTEGER_OCTETS:
            raise Misfit(f"number of {count} octets")
        writer.length(count)
        writer.octets(number.to_bytes(count, "big", signed=True))


class SemiConstrainedInteger(Node):
    """INTEGER with a lower bound only (X.691 clause 11.7): a length and the octets of what is above the bound."""

    __slots__ = ("low",)

    def __init__(self, low: int) -> None:
        self.low = low

    def decode(self, reader: Reader) -> Any:
        """Read an int of at most ``MAX_INTEGER_OCTETS``."""
        count = reader.length()
        if not 0 < count <= MAX_INTEGER_OCTETS:
            raise Misfit(f"number of {count} octets")
        return self.low + int.from_bytes(reader.octets(count), "big")

    def encode(self, writer: Writer, value: Any) -> None:
        """Write an int."""
        above = checked_int(value) - self.low
        count = (above.bit_length() + 7) // 8 or 1
        if above < 0 or count > MAX_INTEGER_OCTETS:
            raise Misfit(f"{shown(value)} is not in {self.low}..MAX, or longer than {MAX_INTEGER_OCTETS} octets")
        writer.length(count)
        writer.octets(above.to_bytes(count, "big"))


class ExtensibleInteger(Node):
    """INTEGER whose bounds end in an extension marker (X.691 clause 13.1): a bit says whether the bounds hold."""

    __slots__ = ("outside", "within")

    def __init__(self, low: int, high: int) -> None:
        self.within = ConstrainedInteger(low, high)
        self.outside = Integer()

    def decode(self, reader: Reader) -> Any:
        """Read an int."""
        if reader.bits(1):
            return self.outside.decode(reader)
        return self.within.read(reader)

    def encode(self, writer: Writer, value: Any) -> None:
        """Write an int."""
        number = checked_int(value)
        if self.within.low <= number <= self.within.high:
            writer.bits(0, 1)
            self.within.write(writer, number)
        else:
            writer.bits(1, 1)
            self.outside.encode(writer, number)


class Sized(Node):
    """What has a size: ``low`` to ``high`` units of ``unit`` bits, or any number of them where ``high`` is -1.

    A fixed size of at most 16 bits is not aligned, everything else is (X.691 clauses 16, 17 and 30).
    """

    __slots__ = ("aligned", "counter", "high", "low")

    def __init__(self, low: int, high: int, unit: int) -> None:
        self.low = low
        self.high = high
        self.counter: ConstrainedInteger | None = ConstrainedInteger(low, high) if high > low else None
        self.aligned = low != high or high * unit > 16

    def read_size(self, reader: Reader) -> int:
        """Read how many units follow."""
        if self.counter is not None:
            return self.counter.read(reader)
        if self.high < 0:
            return reader.length()
        return self.high

    def write_size(self, writer: Writer, count: int) -> None:
        """Write how many units follow."""
        if self.high < 0:
            writer.length(count)
            return
        if not self.low <= count <= self.high:
            wanted = str(self.high) if self.low == self.high else f"{self.low}..{self.high}"
            raise Misfit(f"size {count} is not {wanted}")
        if self.counter is not None:
            self.counter.write(writer, count)


class OctetString(Sized):
    """OCTET STRING, and an open type whose content is nobody's business here: bytes."""

    __slots__ = ()

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high, 8)

    def decode(self, reader: Reader) -> Any:
        """Read bytes."""
        count = self.read_size(reader)
        if self.aligned:
            return reader.octets(count)
        return reader.bits(count * 8).to_bytes(count, "big")

    def encode(self, writer: Writer, value: Any) -> None:
        """Write bytes."""
        octets = checked_bytes(value)
        self.write_size(writer, len(octets))
        if self.aligned:
            writer.octets(octets)
        else:
            writer.bits(int.from_bytes(octets, "big"), len(octets) * 8)


class BitString(Sized):
    """BIT STRING: ``(value, number of bits)``, the first bit being the most significant."""

    __slots__ = ()

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high, 1)

    def decode(self, reader: Reader) -> Any:
        """Read ``(int, number of bits)``."""
        count = self.read_size(reader)
        if self.aligned and count:
            reader.pos = (reader.pos + 7) & -8
        if count <= MAX_FIELD_BITS:
            return (reader.bits(count), count)
        value = int.from_bytes(reader.octets((count + 7) >> 3), "big") >> (-count & 7)
        reader.pos -= -count & 7
        return (value, count)

    def encode(self, writer: Writer, value: Any) -> None:
        """Write ``(int, number of bits)``."""
        if not isinstance(value, tuple) or len(value) != 2:
            raise Misfit(f"not a tuple of value and number of bits: {shown(value)}")
        number = checked_int(value[0])
        count = checked_int(value[1])
        if count < 0 or number < 0 or number.bit_length() > count:
            raise Misfit(f"{shown(number)} does not fit {shown(count)} bits")
        if count > 0xFFFF:
            raise Misfit(f"{shown(count)} bits: would need fragments")
        self.write_size(writer, count)
        if self.aligned and count:
            writer.align()
        rest = count & 7
        if count > 16:
            writer.octets((number >> rest).to_bytes(count >> 3, "big"))
            number &= (1 << rest) - 1
            count = rest
        writer.bits(number, count)


class LatinString(Sized):
    """Character strings of one octet a character: IA5String, PrintableString, GeneralString, some with an alphabet.

    IA5String has 7 bits, yet peers put Latin-1 names there: 8-bit characters are read and written as Latin-1.
    """

    __slots__ = ("alphabet",)

    def __init__(self, low: int, high: int, alphabet: str) -> None:
        super().__init__(low, high, 8)
        self.alphabet = alphabet

    def decode(self, reader: Reader) -> Any:
        """Read a str."""
        count = self.read_size(reader)
        octets = reader.octets(count) if self.aligned else reader.bits(count * 8).to_bytes(count, "big")
        text = octets.decode("latin-1")
        if self.alphabet and text.strip(self.alphabet):
            raise Misfit(f"{shown(text)} has characters besides {self.alphabet}")
        return text

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a str."""
        if not isinstance(value, str):
            raise Misfit(f"not a str: {shown(value)}")
        if self.alphabet and value.strip(self.alphabet):
            raise Misfit(f"{shown(value)} has characters besides {self.alphabet}")
        try:
            octets = value.encode("latin-1")
        except UnicodeEncodeError:
            raise Misfit(f"{shown(value)} has characters besides Latin-1") from None
        self.write_size(writer, len(octets))
        if self.aligned:
            writer.octets(octets)
        else:
            writer.bits(int.from_bytes(octets, "big"), len(octets) * 8)


class DigitString(Sized):
    """Character strings whose alphabet has 9 to 16 characters: 4 bits each (X.691 clause 30.5), numbered in its order."""

    __slots__ = ("alphabet", "to_digits", "to_text")

    def __init__(self, low: int, high: int, alphabet: str) -> None:
        super().__init__(low, high, 4)
        self.alphabet = alphabet
        # The codec goes through hexadecimal text, which turns a whole string in one call; NUL marks an unused number.
        digits = "0123456789abcdef"
        self.to_text = str.maketrans(digits, alphabet.ljust(16, "\0"))
        self.to_digits = str.maketrans(alphabet, digits[: len(alphabet)])

    def decode(self, reader: Reader) -> Any:
        """Read a str."""
        count = self.read_size(reader)
        octets = reader.octets((count + 1) >> 1)
        if count & 1:
            reader.pos -= 4
        text = octets.hex()[:count].translate(self.to_text)
        if "\0" in text:
            raise Misfit(f"a character besides {self.alphabet}")
        return text

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a str."""
        if not isinstance(value, str):
            raise Misfit(f"not a str: {shown(value)}")
        if value.strip(self.alphabet):
            raise Misfit(f"{shown(value)} has characters besides {self.alphabet}")
        count = len(value)
        self.write_size(writer, count)
        digits = value.translate(self.to_digits)
        if count & 1:
            writer.octets(bytes.fromhex(digits[:-1]))
            writer.align()
            writer.bits(int(digits[-1], 16), 4)
        else:
            writer.octets(bytes.fromhex(digits))


class BmpString(Sized):
    """BMPString: a str, two octets a character.

    Characters outside the Basic Multilingual Plane are read from and written as surrogate pairs, and count twice. A lone
    surrogate is refused: such a str could be neither logged nor sent on as UTF-8.
    """

    __slots__ = ()

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high, 16)

    def decode(self, reader: Reader) -> Any:
        """Read a str."""
        octets = reader.octets(self.read_size(reader) * 2)
        try:
            return octets.decode("utf-16-be")
        except UnicodeDecodeError:
            raise Misfit("not UTF-16") from None

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a str."""
        if not isinstance(value, str):
            raise Misfit(f"not a str: {shown(value)}")
        try:
            octets = utf_16_be_encode(value, "strict")[0]
        except UnicodeEncodeError:
            raise Misfit(f"{shown(value)} is not UTF-16") from None
        self.write_size(writer, len(octets) >> 1)
        writer.octets(octets)


@lru_cache(OID_CACHE_SIZE)
def arcs_of(octets: bytes) -> tuple[int, ...]:
    """Decode the content octets of an object identifier (X.690 clause 8.19)."""
    if not 0 < len(octets) <= MAX_OID_OCTETS or octets[-1] & 0x80:
        raise Misfit("not an object identifier")
    arcs = []
    arc = 0
    for octet in octets:
        arc = arc << 7 | octet & 0x7F
        if octet < 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return (first, arcs[0] - 40 * first, *arcs[1:])


@lru_cache(OID_CACHE_SIZE)
def octets_of(arcs: tuple[int, ...]) -> bytes:
    """Encode an object identifier of at least two arcs."""
    if len(arcs) < 2 or min(arcs) < 0 or arcs[0] > 2 or (arcs[0] < 2 and arcs[1] >= 40):
        raise Misfit("not an object identifier")
    octets = bytearray()
    for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]):
        octets += bytes(
            arc >> shift & 0x7F | (0x80 if shift else 0) for shift in range(max(arc.bit_length() - 1, 0) // 7 * 7, -1, -7)
        )
    if len(octets) > MAX_OID_OCTETS:
        raise Misfit(f"object identifier of {len(octets)} octets")
    return bytes(octets)


class ObjectIdentifier(Node):
    """OBJECT IDENTIFIER: a tuple of ints."""

    __slots__ = ()

    def decode(self, reader: Reader) -> Any:
        """Read a tuple of ints."""
        reader.spend(OID_ITEMS)
        return arcs_of(reader.octets(reader.length()))

    def encode(self, writer: Writer, value: Any) -> None:
        """Write a tuple of ints."""
        if not isinstance(value, tuple):
            raise Misfit(f"not a tuple of ints: {shown(value)}")
        for arc in value:
            checked_int(arc)
        octets = octets_of(value)
        writer.length(len(octets))
        writer.octets(octets)
