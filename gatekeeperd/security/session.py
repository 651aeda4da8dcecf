"""The session between one endpoint and the gatekeeper: its key, and the MAC on every message after registration.

What lives here: X25519, HKDF, the SESSION_MAC token both ways. What never does: counters' bookkeeping (``replay``) and
whose session it is (``core``).

The MAC is HMAC-SHA-256 under the session key over a domain tag, the direction, the session challenge and the whole PDU
with the 32 MAC octets blanked. A token holds a version (1 octet), the counter (8 octets, big endian) and the MAC.
"""

from __future__ import annotations

import dataclasses
import hmac
import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import RuntimeError as SodiumError

from gatekeeperd.errors import SecurityError
from gatekeeperd.security.oids import SESSION_MAC
from gatekeeperd.security.tokens import RasMessage, clear_token, find_token, locate, token_data, with_tokens
from gatekeeperd.wire.h225 import encode_ras

MAC_LENGTH: Final = 32
MAX_COUNTER: Final = 2**64 - 1

_DOMAIN: Final = b"guardian-council/session-mac/1"
_VERSION: Final = 1
#: Version and counter before the MAC.
_HEADER_LENGTH: Final = 9
_TOKEN_LENGTH: Final = _HEADER_LENGTH + MAC_LENGTH
_BLANK: Final = bytes(MAC_LENGTH)
#: Stands for the MAC until it is known. Random, so that no alias that a peer chose can contain it.
_PLACEHOLDER: Final = secrets.token_bytes(MAC_LENGTH)


class Direction(Enum):
    """Who speaks to whom: the octet in the MAC keeps a message from being sent back to its sender."""

    TO_GATEKEEPER = b"\x01"
    TO_TERMINAL = b"\x02"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An ephemeral X25519 key pair (32 octets each)."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def generate(cls) -> Exchange:
        """Make a new pair, for one registration."""
        private = secrets.token_bytes(32)
        return cls(private, crypto_scalarmult_base(private))

    def shared_with(self, peer: bytes) -> bytes:
        """Return the shared secret (32 octets). Raises SecurityError for a peer's key of small order."""
        try:
            return bytes(crypto_scalarmult(self.private, peer))
        except SodiumError:
            raise SecurityError("the peer's X25519 key is of small order") from None


@dataclass(frozen=True, slots=True)
class Session:
    """What both sides know after a registration: key (32 octets), challenge (32 octets), and the gatekeeper's epoch."""

    key: bytes = field(repr=False)
    challenge: bytes
    epoch: int


def renewed(session: Session, challenge: bytes) -> Session:
    """Return ``session`` under a fresh challenge (32 octets); counters start again."""
    return dataclasses.replace(session, challenge=challenge)


def hkdf_sha256(ikm: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive ``length`` octets (at most 8,160) from ``ikm`` (RFC 5869)."""
    key = hmac.digest(salt or _BLANK, ikm, "sha256")
    output = block = b""
    for index in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes((index,)), "sha256")
        output += block
    return output[:length]


def mac_placeholder(counter: int) -> bytes:
    """Return the data of a SESSION_MAC token whose MAC is still to come. Raises SecurityError when counters have run out."""
    if not 0 < counter <= MAX_COUNTER:
        raise SecurityError("the session's counters have run out")
    return bytes((_VERSION,)) + counter.to_bytes(8, "big") + _PLACEHOLDER


def blank_mac(pdu: bytearray, data: bytes) -> int:
    """Put zeros where the MAC of the token ``data`` stands in ``pdu``; return the offset of the MAC. Raises SecurityError."""
    at = locate(pdu, data) + _HEADER_LENGTH
    pdu[at : at + MAC_LENGTH] = _BLANK
    return at


def mac_of(pdu: bytearray, session: Session, direction: Direction) -> bytes:
    """Return the MAC (32 octets) of a PDU that has zeros in its place."""
    return hmac.digest(session.key, b"".join((_DOMAIN, direction.value, session.challenge, pdu)), "sha256")


def protect(message: RasMessage, session: Session, counter: int, direction: Direction) -> bytes:
    """Encode ``message`` with a SESSION_MAC token behind its other tokens.

    ``counter`` must grow with each message in this direction under this session challenge. Raises EncodeError.
    """
    placeholder = mac_placeholder(counter)
    pdu = bytearray(encode_ras(with_tokens(message, clear_token(SESSION_MAC, placeholder))))
    at = blank_mac(pdu, placeholder)
    pdu[at : at + MAC_LENGTH] = mac_of(pdu, session, direction)
    return bytes(pdu)


def read_mac(message: RasMessage) -> bytes | None:
    """Return the data of the SESSION_MAC token (41 octets), None where there is none. Raises SecurityError if malformed."""
    token = find_token(message, SESSION_MAC)
    if token is None:
        return None
    data = token_data(token, SESSION_MAC)
    if len(data) != _TOKEN_LENGTH or data[0] != _VERSION:
        raise SecurityError("a session MAC token is not of our version")
    return data


def check(pdu: bytes, message: RasMessage, session: Session, direction: Direction) -> int:
    """Check the MAC of a received PDU, ``message`` being what it decodes to, and return its counter.

    Raises SecurityError where there is no MAC or it does not hold. Whether the counter is new is ``ReplayWindow``'s.
    """
    data = read_mac(message)
    if data is None:
        raise SecurityError("the message carries no session MAC")
    blanked = bytearray(pdu)
    blank_mac(blanked, data)
    if not hmac.compare_digest(mac_of(blanked, session, direction), data[_HEADER_LENGTH:]):
        raise SecurityError("the session MAC does not hold")
    return int.from_bytes(data[1:_HEADER_LENGTH], "big")
