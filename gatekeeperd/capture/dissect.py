"""Which octets of a capture are RAS, call signalling and H.245, and what they say.

What lives here: finding the messages. RAS is at its well-known ports and at the addresses that RAS messages tell;
call signalling is at port 1720 and at the addresses that RAS and signalling tell; H.245 at those that signalling
tells, in the tunnel of h245Control, and in fastStart. A message within another names that one as its parent.
What never does: printing, and judging the codecs (``check``).

Nothing is guessed from content: a connection whose address no message told is not looked into, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any, Final

from gatekeeperd.capture.files import Frame
from gatekeeperd.capture.packets import Datagram, PacketReader, Segment
from gatekeeperd.capture.streams import Piece, Stream
from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import DecodeError
from gatekeeperd.wire import h225, h245, q931, tpkt

#: Unicast RAS and multicast discovery (H.225.0 v7 Appendix IV), call signalling.
RAS_PORTS: Final = frozenset({1718, 1719})
SIGNALLING_PORT: Final = 1720

_RAS_FIELDS: Final = frozenset({"rasAddress", "replyAddress"})
_SIGNALLING_FIELDS: Final = frozenset(
    {
        "alternativeAddress",  # Facility: call forwarded
        "callSignalAddress",
        "destCallSignalAddress",
        "sourceCallSignalAddress",
        "srcCallSignalAddress",
    }
)
_H245_FIELDS: Final = frozenset({"h245Address"})
_CONTROL_FIELDS: Final = ("h245Control", "parallelH245Control")
_TPKT_START: Final = bytes((tpkt.VERSION, 0))


class Protocol(Enum):
    """What a message is written in."""

    RAS = "RAS"
    Q931 = "Q.931"
    H225 = "H.225"
    H245 = "H.245"
    FAST_START = "fastStart"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message was captured: for TCP the frame with its last octet. ``time`` is seconds since 1970."""

    frame: int
    time: float
    source: TransportAddress
    destination: TransportAddress


@dataclass(frozen=True, slots=True)
class Pdu:
    """One decoded message.

    ``index`` counts from 0 through the capture; ``parent`` is the index of the message that carried this one.
    ``value`` is as the codec of ``protocol`` gives it, for Q.931 a :class:`gatekeeperd.wire.q931.Message`.
    """

    index: int
    origin: Origin
    protocol: Protocol
    name: str
    value: Any
    octets: bytes
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Undecoded:
    """Octets that should be a message of ``protocol`` and are not: ``reason`` says what is wrong with them."""

    origin: Origin
    protocol: Protocol
    octets: bytes
    reason: str
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The capture lacks octets of a stream or datagram: what was in them can't be told, and no one is to blame."""

    origin: Origin
    reason: str


Item = Pdu | Undecoded | Incomplete


class Dissector:
    """Give it the frames in order; it yields items. The counters tell what was passed over."""

    def __init__(self) -> None:
        self._packets = PacketReader()
        self._ras: set[TransportAddress] = set()
        self._tcp: dict[TransportAddress, Protocol] = {}
        self._directions: dict[tuple[TransportAddress, TransportAddress], _Direction] = {}
        self._count = 0
        self.other_datagrams = 0
        self.other_segments = 0

    @property
    def unread_frames(self) -> int:
        """Frames of an unknown link type, or with damaged headers."""
        return self._packets.unread

    def dissect(self, frames: Iterable[Frame]) -> Iterator[Item]:
        """Yield what the frames hold, and at their end what is left of the streams."""
        for frame in frames:
            packet = self._packets.read(frame)
            if isinstance(packet, Datagram):
                yield from self._datagram(packet)
            elif isinstance(packet, Segment):
                yield from self._segment(packet)
        for direction in self._directions.values():
            yield from self._pieces(direction, direction.stream.close())
            yield from direction.rest()

    def _datagram(self, packet: Datagram) -> Iterator[Item]:
        ends = (packet.source, packet.destination)
        if not any(end[1] in RAS_PORTS or end in self._ras for end in ends):
            self.other_datagrams += 1
            return
        origin = Origin(packet.frame, packet.time, packet.source, packet.destination)
        if packet.missing:
            yield Incomplete(origin, f"{packet.missing} octets of the datagram were not captured")
        elif packet.octets:
            # An answer goes to where the request came from, whatever its rasAddress says.
            self._ras.add(packet.source)
            yield from self._message(origin, Protocol.RAS, packet.octets, None)

    def _segment(self, packet: Segment) -> Iterator[Item]:
        key = (packet.source, packet.destination)
        direction = self._directions.get(key)
        if direction is None or packet.begins:
            protocol = self._role(packet)
            if direction is None and protocol is not None:
                direction = self._directions[key] = _Direction(protocol)
            elif direction is not None:
                direction.following = protocol
        if direction is None:
            self.other_segments += 1
            return
        yield from self._pieces(direction, direction.stream.add(packet))

    def _role(self, packet: Segment) -> Protocol | None:
        for end in (packet.destination, packet.source):
            told = self._tcp.get(end)
            if told is not None:
                return told
        if SIGNALLING_PORT in {packet.source[1], packet.destination[1]}:
            return Protocol.Q931
        return None

    def _pieces(self, direction: _Direction, pieces: Iterable[Piece]) -> Iterator[Item]:
        for piece in pieces:
            for found in direction.take(piece):
                if isinstance(found, bytes):
                    yield from self._message(_origin(piece.segment), direction.protocol, found, None)
                else:
                    yield found

    def _message(self, origin: Origin, protocol: Protocol, octets: bytes, parent: int | None) -> Iterator[Item]:
        """Yield one message and those within it."""
        try:
            value = _DECODERS[protocol](octets)
        except DecodeError as error:
            yield Undecoded(origin, protocol, octets, str(error), parent)
            return
        pdu = Pdu(self._count, origin, protocol, _name(protocol, value), value, octets, parent)
        self._count += 1
        yield pdu
        if protocol is Protocol.Q931:
            yield from self._user_information(pdu)
        elif protocol in {Protocol.RAS, Protocol.H225}:
            self._learn(value)
        if protocol is Protocol.H225:
            yield from self._carried(pdu)

    def _user_information(self, pdu: Pdu) -> Iterator[Item]:
        try:
            octets = pdu.value.user_user
        except DecodeError as error:
            contents = pdu.value.contents(q931.Identifier.USER_USER)
            yield Undecoded(pdu.origin, Protocol.H225, contents, str(error), pdu.index)
            return
        if octets is not None:
            yield from self._message(pdu.origin, Protocol.H225, octets, pdu.index)

    def _carried(self, pdu: Pdu) -> Iterator[Item]:
        """Yield the messages in octet strings of an H323-UserInformation: the H.245 tunnel and fastStart."""
        information = pdu.value["h323-uu-pdu"]
        body = information["h323-message-body"][1]
        fields = {**body, **information} if isinstance(body, dict) else information
        for octets in fields.get("fastStart", ()):
            yield from self._message(pdu.origin, Protocol.FAST_START, octets, pdu.index)
        for field in _CONTROL_FIELDS:
            for octets in fields.get(field, ()):
                yield from self._message(pdu.origin, Protocol.H245, octets, pdu.index)

    def _learn(self, value: Any) -> None:
        """Note the addresses that a message tells, wherever they are in it."""
        if isinstance(value, dict):
            for field, content in value.items():
                if field in _RAS_FIELDS:
                    self._ras.update(_addresses(content))
                elif field in _SIGNALLING_FIELDS:
                    self._tcp.update(dict.fromkeys(_addresses(content), Protocol.Q931))
                elif field in _H245_FIELDS:
                    self._tcp.update(dict.fromkeys(_addresses(content), Protocol.H245))
                else:
                    self._learn(content)
        elif isinstance(value, list | tuple):
            for content in value:
                self._learn(content)


class _Direction:
    """One direction of a connection of ours: its stream, its packets, and whether their boundaries are known."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.following: Protocol | None = protocol
        self.stream = Stream()
        self._splitter = tpkt.Splitter()
        self._lost = False
        self._last: Segment | None = None

    def take(self, piece: Piece) -> Iterator[bytes | Item]:
        """Give the payloads that end in this piece, and what is wrong with the stream here."""
        origin = _origin(piece.segment)
        if piece.restart:
            yield from self.rest()
            self._splitter, self._lost = tpkt.Splitter(), False
            self.protocol = self.following or self.protocol
        if piece.gap:
            yield Incomplete(origin, f"{piece.gap} octets before this segment were not captured")
            self._splitter, self._lost = tpkt.Splitter(), True
        self._last = piece.segment
        if self._lost and not piece.octets.startswith(_TPKT_START):
            return
        # Senders start a segment with a packet: after a gap or a fault that is where boundaries are found again.
        self._lost = False
        self._splitter.feed(piece.octets)
        try:
            for payload in self._splitter.payloads():
                if payload:
                    yield payload
        except DecodeError as error:
            yield Undecoded(origin, self.protocol, piece.octets, str(error))
            self._splitter, self._lost = tpkt.Splitter(), True

    def rest(self) -> Iterator[Item]:
        """Tell of a packet that has begun and is not whole."""
        if self._last is not None and self._splitter.pending:
            yield Incomplete(_origin(self._last), f"the stream ends {self._splitter.pending} octets into a packet")


_DECODERS: Final[dict[Protocol, Callable[[bytes], Any]]] = {
    Protocol.RAS: h225.decode_ras,
    Protocol.Q931: q931.decode,
    Protocol.H225: h225.decode_user_information,
    Protocol.H245: h245.decode,
    Protocol.FAST_START: h245.decode_open_logical_channel,
}


def _name(protocol: Protocol, value: Any) -> str:
    if protocol is Protocol.Q931:
        return str(value.name)
    if protocol is Protocol.H225:
        return str(value["h323-uu-pdu"]["h323-message-body"][0])
    if protocol is Protocol.FAST_START:
        return "openLogicalChannel"
    name, content = value
    # H.245 has a choice of request, response, command and indication around the message's own name.
    return str(content[0] if protocol is Protocol.H245 and isinstance(content, tuple) else name)


def _addresses(value: Any) -> Iterator[TransportAddress]:
    """Give the IP addresses in a TransportAddress of H.225.0, or in a list of them."""
    for kind, content in value if isinstance(value, list) else [value]:
        if kind in {"ipAddress", "ip6Address"} and content["port"]:
            yield str(ip_address(content["ip"])), content["port"]


def _origin(segment: Segment) -> Origin:
    return Origin(segment.frame, segment.time, segment.source, segment.destination)
