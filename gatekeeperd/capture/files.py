"""Capture files: the frames of a pcap or pcapng, each with its number, time and link type.

What lives here: the two file formats. What never does: what is inside a frame.

dpkt reads these formats too, but it takes a cut-off frame for a whole one, knows one interface a file, and tells no
frame number when it gives up; a tool that checks captures must say where and why. Frames are taken apart by dpkt
(see ``packets``).

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gatekeeperd.errors import CaptureError

#: libpcap's MAX_SNAPLEN: no frame is longer, and a length field that says so is damage.
MAX_FRAME: Final = 262_144
#: Largest pcapng block that we hold: a frame and generous options. Blocks that carry no frame are as small in practice.
MAX_BLOCK: Final = 1 << 20

_PCAP_MAGIC: Final = {  # first four octets -> byte order, fractions of a second
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
}
_SECTION: Final = 0x0A0D0D0A
_SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_BYTE_ORDER_MAGIC: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_IF_TSRESOL, _IF_TSOFFSET = 9, 14


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame.

    ``number`` counts from 1 as Wireshark does. ``time`` is seconds since 1970. ``link_type`` is the LINKTYPE number.
    ``cut_octets`` is how many octets at the end the capture left out (its snap length was too small).
    """

    number: int
    time: float
    link_type: int
    octets: bytes
    cut_octets: int


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    fraction: int
    offset: int


def read_frames(path: Path) -> Iterator[Frame]:
    """Give the frames of a capture in file order.

    Raises CaptureError, after the frames before it, where the file can't be read, is neither pcap nor pcapng, is
    damaged, or ends within a frame.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic in _PCAP_MAGIC:
                yield from _Pcap(path, file, *_PCAP_MAGIC[magic]).frames()
            elif magic == _SECTION_MAGIC:
                yield from _Pcapng(path, file).frames()
            else:
                raise CaptureError("neither pcap nor pcapng", path=path)
    except OSError as error:
        raise CaptureError(error.strerror or str(error), path=path) from error


class _Pcap:
    def __init__(self, path: Path, file: BinaryIO, order: str, fraction: int) -> None:
        self._path = path
        self._file = file
        self._order = order
        self._fraction = fraction

    def frames(self) -> Iterator[Frame]:
        header = self._file.read(20)
        if len(header) < 20:
            raise CaptureError("the file header is cut off", path=self._path)
        # The upper bits tell of a frame check sequence, which Ethernet's payload length makes harmless.
        link_type = struct.unpack(self._order + "I", header[16:])[0] & 0xFFFF
        number = 0
        while head := self._file.read(16):
            number += 1
            if len(head) < 16:
                raise CaptureError("the frame's header is cut off", path=self._path, frame=number)
            seconds, part, captured, length = struct.unpack(self._order + "IIII", head)
            if captured > MAX_FRAME:
                raise CaptureError(f"a frame of {captured} octets, {MAX_FRAME} is the most", path=self._path, frame=number)
            octets = self._file.read(captured)
            if len(octets) < captured:
                raise CaptureError(f"the file ends after {len(octets)} of {captured} octets", path=self._path, frame=number)
            yield Frame(number, seconds + part / self._fraction, link_type, octets, max(0, length - captured))


class _Pcapng:
    """Sections one after another, each with its byte order and interfaces; blocks that hold no frame are passed over."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 0

    def frames(self) -> Iterator[Frame]:
        head = _SECTION_MAGIC
        while head:
            kind, body = self._block(head)
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind in {_OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET}:
                self._number += 1
                yield self._frame(kind, body)
            head = self._file.read(4)

    def _error(self, message: str) -> CaptureError:
        return CaptureError(message, path=self._path, frame=self._number or None)

    def _read(self, count: int) -> bytes:
        octets = self._file.read(count)
        if len(octets) < count:
            raise self._error(f"the file ends within the block after frame {self._number}")
        return octets

    def _block(self, head: bytes) -> tuple[int, bytes]:
        """Read the block whose first octets are ``head``: its type and its body."""
        head += self._read(8 - len(head))
        prefix = b""
        if head[:4] == _SECTION_MAGIC:
            # The byte order, which the block's own length is in, comes after that length.
            prefix = self._read(4)
            if prefix not in _BYTE_ORDER_MAGIC:
                raise self._error("a section header without byte order")
            self._order = _BYTE_ORDER_MAGIC[prefix]
            self._interfaces.clear()
        kind, length = struct.unpack(self._order + "II", head)
        if length % 4 or not 12 + len(prefix) <= length <= MAX_BLOCK:
            raise self._error(f"a block of {length} octets after frame {self._number}")
        body = prefix + self._read(length - 12 - len(prefix))
        if struct.unpack(self._order + "I", self._read(4))[0] != length:
            raise self._error(f"the two lengths of the block after frame {self._number} differ")
        return kind, body

    def _unpack(self, layout: str, body: bytes) -> tuple[int, ...]:
        if len(body) < struct.calcsize(self._order + layout):
            raise self._error(f"the block after frame {self._number} is too short")
        return struct.unpack_from(self._order + layout, body)

    def _interface(self, body: bytes) -> _Interface:
        link_type, _, snap_length = self._unpack("HHI", body)
        fraction, offset = 10**6, 0
        at = 8
        while at + 4 <= len(body):
            code, length = self._unpack("HH", body[at:])
            value = body[at + 4 : at + 4 + length]
            if code == _IF_TSRESOL and len(value) == 1:
                fraction = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _IF_TSOFFSET and len(value) == 8:
                offset = self._unpack("q", value)[0]
            at += 4 + length + -length % 4
        return _Interface(link_type, snap_length, fraction, offset)

    def _frame(self, kind: int, body: bytes) -> Frame:
        if kind == _SIMPLE_PACKET:
            # Has neither interface nor time, and tells its captured length by the interface's snap length alone.
            index, ticks, start = 0, 0, 4
            (length,) = self._unpack("I", body)
            captured = min(length, len(body) - start)
        elif kind == _ENHANCED_PACKET:
            index, high, low, captured, length = self._unpack("IIIII", body)
            ticks, start = high << 32 | low, 20
        else:
            index, _, high, low, captured, length = self._unpack("HHIIII", body)
            ticks, start = high << 32 | low, 20
        if index >= len(self._interfaces):
            raise self._error(f"the frame belongs to interface {index}, of which the section does not tell")
        interface = self._interfaces[index]
        if kind == _SIMPLE_PACKET and interface.snap_length:
            captured = min(captured, interface.snap_length)
        if captured > MAX_FRAME or start + captured > len(body):
            raise self._error(f"{captured} octets in a block of {len(body)}")
        time = interface.offset + ticks / interface.fraction
        octets = body[start : start + captured]
        return Frame(self._number, time, interface.link_type, octets, max(0, length - captured))
