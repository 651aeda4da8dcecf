"""The admission credential: what a guardian claims, signed together with the message that carries it.

What lives here: the token's schema, its signature input, signing and verifying. What never does: whether the claims are
granted (``policy``), whose key it is (registry) and whether the counter is new (``replay``).

The signature covers a domain tag, the claims, everything that could make it another request (message type,
requestSeqNum, gatekeeperIdentifier, endpointIdentifier, callIdentifier, answerCall, destination, RAS address), the
gatekeeper's challenge, and the digest of the PDU with the token blanked. ``docs/adr/0002-credential.md`` has the reasons.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from pyasn1.type import char, constraint, namedtype, namedval, tag, univ

from gatekeeperd.errors import SecurityError
from gatekeeperd.security import der
from gatekeeperd.security.keys import SIGNATURE_LENGTH, KeyPair, key_id, verify_signature
from gatekeeperd.security.oids import CREDENTIAL, SESSION_MAC
from gatekeeperd.security.session import MAC_LENGTH, Direction, Session, blank_mac, mac_of, mac_placeholder, read_mac
from gatekeeperd.security.tokens import RasMessage, clear_token, find_token, frame, locate, octets_of, token_data, with_tokens
from gatekeeperd.wire.h225 import decode_ras, encode_ras

_DOMAIN: Final = b"guardian-council/credential/1"
_VERSION: Final = 1
#: Stands for the signature until it is known. Random, so that nothing else in a message can contain it.
_PLACEHOLDER: Final = secrets.token_bytes(SIGNATURE_LENGTH)


class CallType(IntEnum):
    """How urgent a call is. The names are public, the numbers stand in the credential."""

    ROUTINE = 0
    ESCALATE = 1
    EMERGENCY = 2


def _size(lower: int, upper: int) -> constraint.ValueSizeConstraint:
    return constraint.ValueSizeConstraint(lower, upper)


def _range(lower: int, upper: int) -> constraint.ValueRangeConstraint:
    return constraint.ValueRangeConstraint(lower, upper)


class CredentialSchema(univ.Sequence):  # type: ignore[misc]  # pyasn1 has no types
    """``GuardianCredential ::= SEQUENCE``, the data of a CREDENTIAL token."""

    componentType = namedtype.NamedTypes(  # noqa: N815  the name is pyasn1's
        namedtype.NamedType("version", univ.Integer().subtype(subtypeSpec=_range(_VERSION, _VERSION))),
        namedtype.NamedType("keyId", univ.OctetString().subtype(subtypeSpec=_size(8, 8))),
        namedtype.NamedType("terminalId", char.UTF8String().subtype(subtypeSpec=_size(1, 128))),
        namedtype.NamedType("callId", char.UTF8String().subtype(subtypeSpec=_size(0, 128))),
        namedtype.NamedType(
            "callType",
            univ.Enumerated(
                namedValues=namedval.NamedValues(*((member.name.lower(), member.value) for member in CallType))
            ).subtype(subtypeSpec=_range(min(CallType), max(CallType))),
        ),
        namedtype.NamedType("hasPii", univ.Boolean()),
        # ARQ.bandWidth is at most 2**32 - 1 units of 100 bit/s.
        namedtype.NamedType("bandwidthBps", univ.Integer().subtype(subtypeSpec=_range(0, (2**32 - 1) * 100))),
        namedtype.NamedType("counter", univ.Integer().subtype(subtypeSpec=_range(0, 2**64 - 1))),
        namedtype.OptionalNamedType(
            "keyExchange",
            univ.OctetString().subtype(
                implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 0), subtypeSpec=_size(32, 32)
            ),
        ),
        namedtype.NamedType("signature", univ.OctetString().subtype(subtypeSpec=_size(SIGNATURE_LENGTH, SIGNATURE_LENGTH))),
    )


_TABLE: Final = der.table(CredentialSchema())


@dataclass(frozen=True, slots=True)
class Claims:
    """What a guardian says about itself and the call. ``counter`` is that of the message's MAC, 0 in a registration."""

    terminal_id: str
    call_id: str = ""
    call_type: CallType = CallType.ROUTINE
    has_pii: bool = False
    bandwidth_bps: int = 0
    counter: int = 0


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as it was received, not verified yet.

    ``key_id`` (8 octets) names the key, ``key_exchange`` is an X25519 public key (32 octets) in a registration,
    ``encoded`` the octets in the token.
    """

    claims: Claims
    key_id: bytes
    key_exchange: bytes | None
    signature: bytes
    encoded: bytes = field(repr=False)


def encode_credential(claims: Claims, key_id: bytes, key_exchange: bytes | None, signature: bytes) -> bytes:
    """Write a credential in DER. Raises EncodeError where a claim is out of bounds."""
    return der.encode(
        _TABLE,
        (
            _VERSION,
            key_id,
            claims.terminal_id,
            claims.call_id,
            claims.call_type,
            claims.has_pii,
            claims.bandwidth_bps,
            claims.counter,
            key_exchange,
            signature,
        ),
    )


def decode_credential(encoded: bytes) -> Credential:
    """Read a credential. Raises SecurityError where it isn't DER of our schema."""
    _, key, terminal_id, call_id, call_type, has_pii, bandwidth_bps, counter, key_exchange, signature = der.decode(
        _TABLE, encoded
    )
    claims = Claims(terminal_id, call_id, CallType(call_type), has_pii, bandwidth_bps, counter)
    return Credential(claims, key, key_exchange, signature, encoded)


def read_credential(message: RasMessage) -> Credential | None:
    """Return the credential that ``message`` carries, None where it carries none.

    Nothing in it is true before :func:`verify_credential`. Raises SecurityError where it is malformed or there are two.
    """
    token = find_token(message, CREDENTIAL)
    return None if token is None else decode_credential(token_data(token, CREDENTIAL))


def verify_credential(pdu: bytes, message: RasMessage, credential: Credential, public_key: bytes, challenge: bytes) -> None:
    """Check that the holder of ``public_key`` (32 octets) signed this message under ``challenge`` (32 octets).

    ``message`` is what ``pdu`` decodes to, ``credential`` what was read from it. The MAC, where there is one, is not
    checked. Raises SecurityError saying what failed.
    """
    if credential.key_id != key_id(public_key):
        raise SecurityError("the credential names another key than the registry's")
    blanked = bytearray(pdu)
    data = read_mac(message)
    if data is not None:
        blank_mac(blanked, data)
    _blank(blanked, credential.encoded)
    verify_signature(public_key, _signature_input(message, credential, challenge, blanked), credential.signature)


def sign_message(
    message: RasMessage,
    claims: Claims,
    key: KeyPair,
    challenge: bytes,
    *,
    key_exchange: bytes | None = None,
    session: Session | None = None,
) -> bytes:
    """Encode ``message`` with a CREDENTIAL token and, where there is a ``session``, a SESSION_MAC with the claims' counter.

    ``challenge`` is the gatekeeper's (of its GCF in a registration, of the session afterwards). Raises EncodeError.
    """
    unsigned = encode_credential(claims, key.key_id, key_exchange, _PLACEHOLDER)
    message = with_tokens(message, clear_token(CREDENTIAL, unsigned))
    if session is None:
        pdu = bytearray(encode_ras(message))
        return bytes(_sign(pdu, unsigned, key, challenge))
    placeholder = mac_placeholder(claims.counter)
    pdu = bytearray(encode_ras(with_tokens(message, clear_token(SESSION_MAC, placeholder))))
    mac_at = blank_mac(pdu, placeholder)
    _sign(pdu, unsigned, key, challenge)
    pdu[mac_at : mac_at + MAC_LENGTH] = mac_of(pdu, session, Direction.TO_GATEKEEPER)
    return bytes(pdu)


def _sign(pdu: bytearray, unsigned: bytes, key: KeyPair, challenge: bytes) -> bytearray:
    """Put the signature into the credential ``unsigned`` that stands in ``pdu``, whose MAC is blank."""
    # Signed as the gatekeeper will read it, whatever shape the caller gave the fields.
    message = decode_ras(pdu)
    at = _blank(pdu, unsigned)
    signature = key.sign(_signature_input(message, decode_credential(unsigned), challenge, pdu))
    pdu[at : at + len(unsigned)] = unsigned[:-SIGNATURE_LENGTH] + signature
    return pdu


def _blank(pdu: bytearray, encoded: bytes) -> int:
    """Put zeros where the credential stands in ``pdu``; return its offset. Raises SecurityError unless it is there once."""
    at = locate(pdu, encoded)
    pdu[at : at + len(encoded)] = bytes(len(encoded))
    return at


def _signature_input(message: RasMessage, credential: Credential, challenge: bytes, blanked: bytearray) -> bytes:
    """Return what is signed; ``blanked`` is the PDU with zeros for the credential and, where there is one, the MAC."""
    name, fields = message
    call_identifier = fields.get("callIdentifier")
    return frame(
        _DOMAIN,
        name.encode(),
        fields["requestSeqNum"].to_bytes(2, "big"),
        fields.get("gatekeeperIdentifier", "").encode("utf-8", "surrogatepass"),
        fields.get("endpointIdentifier", "").encode("utf-8", "surrogatepass"),
        call_identifier["guid"] if call_identifier else b"",
        b"\x01" if fields.get("answerCall") else b"\x00",
        _optional(fields, "destinationInfo"),
        _optional(fields, "destCallSignalAddress"),
        _optional(fields, "rasAddress"),
        # The credential without its signature is DER, hence one encoding: version, keyId, the claims, keyExchange.
        credential.encoded[:-SIGNATURE_LENGTH],
        challenge,
        hashlib.sha256(blanked).digest(),
    )


def _optional(fields: dict[str, Any], name: str) -> bytes:
    return octets_of(fields[name]) if name in fields else b""
