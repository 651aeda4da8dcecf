"""A mutation fuzzer for the PER codec: whatever the octets, it decodes or raises DecodeError, and soon.

Three rules are checked for every input:

- nothing but DecodeError ever comes out of a decoder
- what was decoded can be encoded, and decodes to the same value again
- no input takes longer than ``LIMIT_S``, compiled (the machine may be busy: a slow case is tried again, its best time counts)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gatekeeperd.capture.dissect import Dissector, Pdu, Protocol
from gatekeeperd.capture.files import read_frames
from gatekeeperd.errors import DecodeError, EncodeError
from gatekeeperd.wire import h225, h245
from gatekeeperd.wire.per_engine import INTERPRETED_ENGINE, compiled_engine
from gatekeeperd.wire.schema import Codec, Schema, default_schema
from gatekeeperd.wire.tables import TYPES
from tests.fuzz.values import Values, list_of, parts

CAPTURES = Path(__file__).parent.parent / "vectors" / "captures"
LIMIT_S = 0.001
RETRIES = 20
# One octet that is often special: all bits, none, a length of two octets, a fragment, the largest short length.
SPECIAL = (0x00, 0x01, 0x7F, 0x80, 0xBF, 0xC0, 0xC4, 0xFF)

RAS = ("H225.RasMessage", h225.MAX_RAS_OCTETS, h225.MAX_RAS_ITEMS)
USER_INFORMATION = ("H225.H323-UserInformation", h225.MAX_USER_INFORMATION_OCTETS, h225.MAX_USER_INFORMATION_ITEMS)
CONTROL = ("H245.MultimediaSystemControlMessage", h245.MAX_OCTETS, h245.MAX_ITEMS)
CHANNEL = ("H245.OpenLogicalChannel", h245.MAX_OCTETS, h245.MAX_ITEMS)
PROTOCOLS = {Protocol.RAS: RAS, Protocol.H225: USER_INFORMATION, Protocol.H245: CONTROL, Protocol.FAST_START: CHANNEL}


@dataclass
class Target:
    """One decoder and the messages that it is fed mutations of; ``unbounded`` makes those, and checks round trips."""

    name: str
    codec: Codec
    unbounded: Codec
    seeds: list[bytes] = field(default_factory=list)


@dataclass
class Report:
    """What came of a run; ``escapes`` and ``slow`` are the findings, as text with the input in hexadecimal."""

    variant: str
    inputs: int = 0
    decoded: int = 0
    worst_s: float = 0.0
    worst_input: str = ""
    escapes: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        """All that is against the rules."""
        return self.escapes + self.slow

    def __str__(self) -> str:
        """Say it in a few lines."""
        worst = f"the worst in {self.worst_s * 1e6:.0f} us: {self.worst_input}"
        lines = [f"{self.inputs} inputs ({self.variant}), {self.decoded} of them decoded, {worst}"]
        lines += [f"ESCAPE {text}" for text in self.escapes] + [f"SLOW {text}" for text in self.slow]
        return "\n".join(lines)


def schema_of(variant: str) -> Schema:
    """Return the ``compiled`` or ``interpreted`` codec."""
    engine = compiled_engine() if variant == "compiled" else INTERPRETED_ENGINE
    if engine is None:
        raise SystemExit("the codec is not compiled here")
    return Schema(*engine)


def targets(schema: Schema, rng: random.Random) -> list[Target]:
    """Return the four decoders with their seeds: random values of every message, and all that was captured from real peers."""
    made = {
        name: Target(
            name,
            schema.codec(name, max_octets=max_octets, max_items=max_items),
            default_schema.codec(name, max_octets=1 << 24, max_items=1 << 24),
        )
        for name, max_octets, max_items in (RAS, USER_INFORMATION, CONTROL, CHANNEL)
    }
    for target in made.values():
        for _ in range(60):
            add_seed(target, Values(rng).of(target.name))
    for alternative, _, _ in parts(TYPES[RAS[0]][1] + (TYPES[RAS[0]][2] or ())):
        for density in (0.0, 0.3, 1.0):
            add_seed(made[RAS[0]], Values(rng, density=density).message(RAS[0], alternative))
    for name, octets in captured():
        made[name].seeds.append(octets)
    return list(made.values())


def captured() -> Iterator[tuple[str, bytes]]:
    """Yield all that was captured from real peers: the type of a message and its octets."""
    for path in sorted(CAPTURES.glob("*.pcap")):
        for item in Dissector().dissect(read_frames(path)):
            if isinstance(item, Pdu) and item.protocol in PROTOCOLS:
                yield PROTOCOLS[item.protocol][0], item.octets


def add_seed(target: Target, value: Any) -> None:
    """Add the octets of a value, unless it came out too long to be sent."""
    octets = target.unbounded.encode(value)
    if len(octets) <= target.codec.max_octets:
        target.seeds.append(octets)


def bombs(target: Target, rng: random.Random) -> Iterator[bytes]:
    """Yield messages as long as may be: every list of every RAS message filled up, and long runs of one octet."""
    for octet in (*SPECIAL, 0x55, 0xAA):
        for start in rng.sample(target.seeds, 8):
            yield (start[: rng.randrange(len(start))] + bytes([octet]) * target.codec.max_octets)[: target.codec.max_octets]
    if target.name != RAS[0]:
        return
    for alternative, kind, _ in parts(TYPES[RAS[0]][1] + (TYPES[RAS[0]][2] or ())):
        if kind not in TYPES:
            continue
        for name, text, _ in parts(TYPES[kind][1] + (TYPES[kind][2] or ())):
            several = list_of(text)
            for items in (pool(several[2], density) for density in (0.0, 0.5)) if several else ():
                least = Values(rng, density=0.0, unknown=False).of(kind)
                yield filled(target, (alternative, least), name, items)


@cache
def pool(item: str, density: float) -> list[Any]:
    """Return items of that type, more than any cache holds."""
    rng = random.Random(item)
    return [Values(rng, items=20 if density else 0, density=density, unknown=False).of(item) for _ in range(280)] * 15


def filled(target: Target, message: tuple[str, Any], name: str, items: list[Any]) -> bytes:
    """Return the message with as many of the items in its list ``name`` as fit the datagram and 16 Ki of an extension."""
    count = len(items)
    while True:
        try:
            octets = target.unbounded.encode((message[0], message[1] | {name: items[:count]}))
        except EncodeError:  # beyond 16 Ki
            octets = bytes(3 * target.codec.max_octets)
        if len(octets) <= target.codec.max_octets:
            return octets
        count = min(count - 1, count * target.codec.max_octets // len(octets))


def mutated(rng: random.Random, octets: bytes, other: bytes) -> bytes:
    """Return a damaged copy."""
    data = bytearray(octets)
    kind = rng.random()
    if kind < 0.35:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(SPECIAL) if rng.random() < 0.5 else rng.randrange(256)
    elif kind < 0.55:
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind < 0.65:
        del data[rng.randrange(len(data)) :]
    elif kind < 0.75:
        place = rng.randrange(len(data))
        data[place:place] = rng.randbytes(rng.randint(1, 30))
    elif kind < 0.85:
        start, stop = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        data[start:start] = data[start:stop] * rng.randint(1, 20)
    elif kind < 0.95:
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
    else:
        data = bytearray(rng.randbytes(rng.randint(0, 400)))
    return bytes(data)


def try_one(target: Target, octets: bytes, report: Report) -> None:
    """Decode one input, and note what is against the rules."""
    report.inputs += 1
    value: Any = None
    began = time.perf_counter()
    try:
        value = target.codec.decode(octets)
    except DecodeError:
        pass
    except Exception as error:  # noqa: BLE001 - what must never be is what this looks for
        report.escapes.append(f"{target.name}: {error!r} from {octets.hex()}")
        return
    took = time.perf_counter() - began
    if took > max(report.worst_s, LIMIT_S / 4):
        took = min(took, *(timed(target, octets) for _ in range(RETRIES)))
    if took > report.worst_s:
        report.worst_s, report.worst_input = took, f"{target.name}, {len(octets)} octets, {octets[:16].hex()}..."
    if took > LIMIT_S and report.variant == "compiled":
        report.slow.append(f"{took * 1e6:.0f} us: {target.name} {octets.hex()}")
    if value is None:
        return
    report.decoded += 1
    try:
        again = target.unbounded.decode(target.unbounded.encode(value))
    except EncodeError as error:
        # Our extension bitmaps may be longer than the sender's: a part of just under 16 Ki may no longer fit.
        if "fragments" not in str(error):
            report.escapes.append(f"{target.name}: {error!r} from the value of {octets.hex()}")
        return
    if again != value:
        report.escapes.append(f"{target.name}: another value after a round trip of {octets.hex()}")


def timed(target: Target, octets: bytes) -> float:
    """Return how many seconds one decoding takes."""
    began = time.perf_counter()
    with suppress(DecodeError):
        target.codec.decode(octets)
    return time.perf_counter() - began


def fuzz(*, seconds: float, seed: int, variant: str, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Feed mutations to the decoders for so long; a seed gives the same inputs again."""
    rng = random.Random(seed)
    report = Report(variant)
    made = targets(schema_of(variant), rng)
    for target in made:
        for octets in (b"", *target.seeds, *bombs(target, rng)):
            try_one(target, octets, report)
            progress(report)
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(report.findings) < 10:
        for target in made:
            for _ in range(50):
                octets = rng.choice(target.seeds)
                for _ in range(rng.choice((1, 1, 1, 2, 5))):
                    octets = mutated(rng, octets or b"\0", rng.choice(target.seeds))
                try_one(target, octets[: target.codec.max_octets], report)
        progress(report)
    return report
