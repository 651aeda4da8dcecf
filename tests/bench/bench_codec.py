"""The codec alone, both variants: a full RRQ, an ARQ and a Setup, each with tokens as a peer with H.235 sends them."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any

from gatekeeperd.wire import h225, h245
from gatekeeperd.wire.per_engine import INTERPRETED_ENGINE, compiled_engine
from gatekeeperd.wire.schema import Schema

RUNS = 15
#: Calls a run: a run takes some 10 ms compiled, 50 ms interpreted.
CALLS = {"": 2_000, "_interpreted": 500}

PROTOCOL = (0, 0, 8, 2250, 0, 7)
EXAMPLE = (1, 3, 6, 1, 4, 1, 32473, 1, 1)
GUID = bytes(range(16))
RAS = ("ipAddress", {"ip": b"\x0a\0\0\x05", "port": 1719})
SIGNAL = ("ipAddress", {"ip": b"\x0a\0\0\x05", "port": 1720})
VENDOR = {
    "vendor": {"t35CountryCode": 9, "t35Extension": 0, "manufacturerCode": 61},
    "productId": b"TestEP\0",
    "versionId": b"1.2.3\0",
}
TERMINAL = {"vendor": VENDOR, "terminal": {}, "mc": False, "undefinedNode": False}
TOKEN = {
    "tokenOID": EXAMPLE,
    "timeStamp": 1_700_000_000,
    "random": 12345,
    "generalID": "gk-one\0",
    "sendersID": "alice\0",
    "nonStandard": {"nonStandardIdentifier": EXAMPLE, "data": b"S" * 64},
}
PASSWORD_HASH = (
    "cryptoEPPwdHash",
    {
        "alias": ("h323-ID", "alice"),
        "timeStamp": 1_700_000_000,
        "token": {"algorithmOID": (1, 2, 840, 113549, 2, 5), "paramS": {}, "hash": (int.from_bytes(b"\xaa" * 16), 128)},
    },
)
RRQ = (
    "registrationRequest",
    {
        "requestSeqNum": 1234,
        "protocolIdentifier": PROTOCOL,
        "discoveryComplete": True,
        "callSignalAddress": [SIGNAL],
        "rasAddress": [RAS],
        "terminalType": TERMINAL,
        "terminalAlias": [
            ("dialledDigits", "4420123456"),
            ("h323-ID", "alice@example"),
            ("url-ID", "h323:alice@example.org"),
        ],
        "gatekeeperIdentifier": "gk-one",
        "endpointVendor": VENDOR,
        "timeToLive": 120,
        "tokens": [TOKEN],
        "cryptoTokens": [PASSWORD_HASH],
        "keepAlive": False,
        "willSupplyUUIEs": True,
        "maintainConnection": True,
        "supportsAltGK": None,
        "featureSet": {
            "replacementFeatureSet": False,
            "supportedFeatures": [{"id": ("standard", 18)}, {"id": ("standard", 19)}],
        },
        "genericData": [
            {
                "id": ("standard", 9999),
                "parameters": [
                    {"id": ("standard", 1), "content": ("raw", b"abc")},
                    {"id": ("oid", (0, 0, 8, 460, 18, 0)), "content": ("bool", True)},
                ],
            }
        ],
    },
)
ARQ = (
    "admissionRequest",
    {
        "requestSeqNum": 77,
        "callType": ("pointToPoint", None),
        "callModel": ("direct", None),
        "endpointIdentifier": "1234_gkone",
        "destinationInfo": [("dialledDigits", "4420999888")],
        "srcInfo": [("h323-ID", "alice@example"), ("dialledDigits", "4420123456")],
        "srcCallSignalAddress": SIGNAL,
        "bandWidth": 7680,
        "callReferenceValue": 4711,
        "conferenceID": GUID,
        "activeMC": False,
        "answerCall": False,
        "canMapAlias": True,
        "callIdentifier": {"guid": GUID},
        "gatekeeperIdentifier": "gk-one",
        "tokens": [TOKEN],
        "willSupplyUUIEs": False,
    },
)
CHANNEL = h245.encode_open_logical_channel(
    {
        "forwardLogicalChannelNumber": 101,
        "forwardLogicalChannelParameters": {
            "dataType": ("audioData", ("g711Alaw64k", 20)),
            "multiplexParameters": (
                "h2250LogicalChannelParameters",
                {
                    "sessionID": 1,
                    "mediaControlChannel": (
                        "unicastAddress",
                        ("iPAddress", {"network": b"\x0a\0\0\x05", "tsapIdentifier": 5001}),
                    ),
                    "mediaGuaranteedDelivery": False,
                    "silenceSuppression": False,
                },
            ),
        },
    }
)
SETUP = {
    "h323-uu-pdu": {
        "h323-message-body": (
            "setup",
            {
                "protocolIdentifier": PROTOCOL,
                "sourceAddress": [("h323-ID", "alice@example"), ("dialledDigits", "4420123456")],
                "sourceInfo": TERMINAL,
                "destinationAddress": [("dialledDigits", "4420999888")],
                "destCallSignalAddress": ("ipAddress", {"ip": b"\x0a\0\0\x01", "port": 1720}),
                "activeMC": False,
                "conferenceID": GUID,
                "conferenceGoal": ("create", None),
                "callType": ("pointToPoint", None),
                "sourceCallSignalAddress": SIGNAL,
                "callIdentifier": {"guid": GUID},
                "tokens": [TOKEN],
                "fastStart": [CHANNEL, CHANNEL],
                "mediaWaitForConnect": False,
                "canOverlapSend": False,
                "endpointIdentifier": "1234_gkone",
                "multipleCalls": False,
                "maintainConnection": True,
                "symmetricOperationRequired": None,
            },
        ),
        "h245Tunnelling": True,
        "h245Control": [],
    }
}
SAMPLES: tuple[tuple[str, str, Any, int, int], ...] = (
    ("rrq", "H225.RasMessage", RRQ, h225.MAX_RAS_OCTETS, h225.MAX_RAS_ITEMS),
    ("arq", "H225.RasMessage", ARQ, h225.MAX_RAS_OCTETS, h225.MAX_RAS_ITEMS),
    ("setup", "H225.H323-UserInformation", SETUP, h225.MAX_USER_INFORMATION_OCTETS, h225.MAX_USER_INFORMATION_ITEMS),
)


def run() -> list[dict[str, Any]]:
    """Measure; one dict a figure: name, unit, median, min, max, runs. Without a compiler the interpreted figures alone."""
    variants = {"": compiled_engine(), "_interpreted": INTERPRETED_ENGINE}
    return [
        figure
        for suffix, engine in variants.items()
        if engine is not None
        for figure in _measure_variant(Schema(*engine), suffix)
    ]


def _measure_variant(schema: Schema, suffix: str) -> list[dict[str, Any]]:
    figures = []
    for name, kind, value, max_octets, max_items in SAMPLES:
        codec = schema.codec(kind, max_octets=max_octets, max_items=max_items)
        octets = codec.encode(value)
        if codec.decode(octets) != value:
            raise AssertionError(f"{name} does not come back: nothing to measure")
        figures.append(_measure(f"codec_{name}_decode_us{suffix}", codec.decode, octets, CALLS[suffix]))
        figures.append(_measure(f"codec_{name}_encode_us{suffix}", codec.encode, value, CALLS[suffix]))
    return figures


def _measure(name: str, call: Callable[[Any], object], argument: Any, calls: int) -> dict[str, Any]:
    times = [seconds / calls * 1e6 for seconds in timeit.repeat(lambda: call(argument), number=calls, repeat=RUNS)]
    return {"name": name, "unit": "us", "median": statistics.median(times), "min": min(times), "max": max(times), "runs": RUNS}
