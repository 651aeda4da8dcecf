"""TPKT (RFC 1006 section 6): message boundaries on the TCP connections of call signalling and H.245.

What lives here: putting the four-octet header before a payload, and taking a stream of octets apart again.
What never does: sockets, and any notion of what the payload is.

H.323 borrows the header alone and leaves out the transport PDU that RFC 1006 puts behind it. The RFC's least length
of 7 counts such a PDU, so it does not hold here: four octets, a header with nothing behind it, is what H.460.18 sends
to keep a NAT binding open. Such a packet is an empty payload, and its reader passes over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatekeeperd.errors import DecodeError, EncodeError

VERSION: Final = 3
HEADER_LENGTH: Final = 4
#: The largest payload that the 16-bit length can tell, octets.
MAX_PAYLOAD: Final = 0xFFFF - HEADER_LENGTH


def encode(payload: bytes) -> bytes:
    """Put the header before ``payload`` (0 to 65,531 octets). Raises EncodeError where it does not fit."""
    if len(payload) > MAX_PAYLOAD:
        raise EncodeError(f"TPKT: a payload of {len(payload)} octets, {MAX_PAYLOAD} fit")
    return bytes((VERSION, 0)) + (HEADER_LENGTH + len(payload)).to_bytes(2, "big") + payload


class Splitter:
    """Takes one direction of a connection apart, however TCP has cut it up.

    ``max_payload`` (octets) bounds what one packet may hold, and so what a peer can make us keep: once
    :meth:`payloads` was read to its end, never more than that and a header.
    """

    __slots__ = ("_buffer", "_max_payload")

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._buffer = bytearray()
        self._max_payload = max_payload

    @property
    def pending(self) -> int:
        """Octets of a packet that is not whole yet. Not 0 at the end of a stream: its last packet was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next octets of the stream."""
        self._buffer += data

    def payloads(self) -> Iterator[bytes]:
        """Give the payloads that are whole, in order; an empty one is a keep-alive.

        Raises DecodeError on a version other than 3, a reserved octet other than 0, and a length below the header's
        or above ``max_payload``, after the payloads before it were given. The boundaries are then lost for good, and
        every further call raises the same: close the connection.
        """
        start = 0
        try:
            while len(self._buffer) - start >= HEADER_LENGTH:
                end = start + self._length(start)
                if end > len(self._buffer):
                    return
                payload = bytes(self._buffer[start + HEADER_LENGTH : end])
                start = end
                yield payload
        finally:
            # One deletion for all: deleting packet by packet would move the rest of the buffer each time.
            del self._buffer[:start]

    def _length(self, start: int) -> int:
        version, reserved, high, low = self._buffer[start : start + HEADER_LENGTH]
        if version != VERSION:
            raise DecodeError(f"TPKT: version {version}, not {VERSION}")
        if reserved != 0:
            raise DecodeError(f"TPKT: reserved octet is {reserved}, not 0")
        length = high << 8 | low
        if length < HEADER_LENGTH:
            raise DecodeError(f"TPKT: length {length} is shorter than the header")
        if length - HEADER_LENGTH > self._max_payload:
            raise DecodeError(f"TPKT: a payload of {length - HEADER_LENGTH} octets, at most {self._max_payload} are taken")
        return length
