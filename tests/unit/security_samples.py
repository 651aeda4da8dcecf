"""Messages and keys that the tests of ``security/`` share."""

import hashlib

from gatekeeperd.errors import DecodeError, SecurityError
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.session import Session
from gatekeeperd.wire.h225 import decode_ras

TERMINAL_ID = "if://guardian/technical"
GUARDIAN = KeyPair.from_seed(bytes(range(32)), TERMINAL_ID)
OTHER = KeyPair.from_seed(bytes(range(1, 33)))
SERVICE = KeyPair.from_seed(bytes(range(2, 34)))
CHALLENGE = hashlib.sha256(b"challenge").digest()
SESSION = Session(hashlib.sha256(b"key").digest(), hashlib.sha256(b"session challenge").digest(), 7)

ENDPOINT = "0123456789abcdef0123456789abcdef"
ADDRESS = ("ipAddress", {"ip": bytes((127, 0, 0, 1)), "port": 1719})
VENDOR = {"vendor": {"t35CountryCode": 9, "t35Extension": 0, "manufacturerCode": 61}}

ARQ = (
    "admissionRequest",
    {
        "requestSeqNum": 77,
        "callType": ("pointToPoint", None),
        "callModel": ("direct", None),
        "endpointIdentifier": ENDPOINT,
        "destinationInfo": [("dialledDigits", "4420999888")],
        "destCallSignalAddress": ("ipAddress", {"ip": bytes((127, 0, 0, 9)), "port": 1720}),
        "srcInfo": [("h323-ID", "alice")],
        "bandWidth": 7680,
        "callReferenceValue": 4711,
        "conferenceID": bytes(range(16)),
        "activeMC": False,
        "answerCall": False,
        "canMapAlias": True,
        "callIdentifier": {"guid": bytes(range(16, 32))},
        "gatekeeperIdentifier": "council",
        "willSupplyUUIEs": False,
    },
)
RRQ = (
    "registrationRequest",
    {
        "requestSeqNum": 12,
        "protocolIdentifier": (0, 0, 8, 2250, 0, 7),
        "discoveryComplete": True,
        "callSignalAddress": [ADDRESS],
        "rasAddress": [ADDRESS],
        "terminalType": {"terminal": {}, "mc": False, "undefinedNode": False},
        "terminalAlias": [("url-ID", TERMINAL_ID), ("h323-ID", "alice")],
        "gatekeeperIdentifier": "council",
        "endpointVendor": VENDOR,
        "timeToLive": 120,
        "keepAlive": False,
        "willSupplyUUIEs": False,
        "maintainConnection": False,
    },
)
RCF = (
    "registrationConfirm",
    {
        "requestSeqNum": 12,
        "protocolIdentifier": (0, 0, 8, 2250, 0, 7),
        "callSignalAddress": [ADDRESS],
        "gatekeeperIdentifier": "council",
        "endpointIdentifier": ENDPOINT,
        "timeToLive": 120,
        "willRespondToIRR": False,
        "maintainConnection": False,
    },
)
DRQ = (
    "disengageRequest",
    {
        "requestSeqNum": 80,
        "endpointIdentifier": ENDPOINT,
        "conferenceID": bytes(range(16)),
        "callReferenceValue": 4711,
        "disengageReason": ("normalDrop", None),
        "callIdentifier": {"guid": bytes(range(16, 32))},
        "answeredCall": False,
    },
)


def with_fields(message, **fields):
    """Return ``message`` with fields replaced; names with ``_`` for ``-`` aren't needed here."""
    return message[0], {**message[1], **fields}


def accepted_bit_flips(pdu, verify):
    """Return the bits of ``pdu`` that can be flipped with ``verify(pdu, message)`` still content: it should be none."""
    accepted = []
    for bit in range(len(pdu) * 8):
        flipped = bytearray(pdu)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        try:
            verify(bytes(flipped), decode_ras(flipped))
        except (DecodeError, SecurityError):
            continue
        accepted.append(bit)
    return accepted
