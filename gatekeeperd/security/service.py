"""What the gatekeeper signs with the key that terminals pin: the RCF that opens a session, and tokens for direct calls.

What lives here: the SERVICE and CALL_TOKEN tokens, both sides, and the session key that RRQ and RCF agree on. What never
does: the MAC that the session key is for (``session``) and where the key comes from.

The signature over an RCF covers the digest of the RRQ that it answers and of the whole RCF with the signature blanked.
The session key comes from X25519 through HKDF over the same two messages, so it belongs to exactly this exchange.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

from pyasn1.type import char, constraint, namedtype, univ

from gatekeeperd.errors import SecurityError
from gatekeeperd.security import der
from gatekeeperd.security.keys import SIGNATURE_LENGTH, KeyPair, key_id, verify_signature
from gatekeeperd.security.oids import CALL_TOKEN, SERVICE
from gatekeeperd.security.session import Exchange, Session, hkdf_sha256
from gatekeeperd.security.tokens import (
    RasMessage,
    clear_token,
    find_token,
    frame,
    locate,
    token_challenge,
    token_data,
    with_tokens,
)
from gatekeeperd.wire.h225 import encode_ras

_SERVICE_DOMAIN: Final = b"guardian-council/service/1"
_SESSION_DOMAIN: Final = b"guardian-council/session-key/1"
_CALL_DOMAIN: Final = b"guardian-council/call-token/1"
_VERSION: Final = 1
_KEY_LENGTH: Final = 32
#: Stands for the signature until it is known. Random, so that nothing that a peer chose can contain it.
_PLACEHOLDER: Final = secrets.token_bytes(SIGNATURE_LENGTH)


def _octets(length: int) -> univ.OctetString:
    return univ.OctetString().subtype(subtypeSpec=constraint.ValueSizeConstraint(length, length))


def _name() -> char.UTF8String:
    return char.UTF8String().subtype(subtypeSpec=constraint.ValueSizeConstraint(1, 128))


def _integer(lower: int, upper: int) -> univ.Integer:
    return univ.Integer().subtype(subtypeSpec=constraint.ValueRangeConstraint(lower, upper))


class ServiceSchema(univ.Sequence):  # type: ignore[misc]  # pyasn1 has no types
    """``GuardianService ::= SEQUENCE``, the data of a SERVICE token."""

    componentType = namedtype.NamedTypes(  # noqa: N815  the name is pyasn1's
        namedtype.NamedType("version", _integer(_VERSION, _VERSION)),
        namedtype.NamedType("keyId", _octets(8)),
        namedtype.NamedType("epoch", _integer(0, 2**32 - 1)),
        namedtype.NamedType("keyExchange", _octets(32)),
        namedtype.NamedType("requestDigest", _octets(32)),
        namedtype.NamedType("signature", _octets(SIGNATURE_LENGTH)),
    )


class CallTokenSchema(univ.Sequence):  # type: ignore[misc]  # pyasn1 has no types
    """``GuardianCallToken ::= SEQUENCE``, the data of a CALL_TOKEN token."""

    componentType = namedtype.NamedTypes(  # noqa: N815  the name is pyasn1's
        namedtype.NamedType("version", _integer(_VERSION, _VERSION)),
        namedtype.NamedType("keyId", _octets(8)),
        namedtype.NamedType("callIdentifier", _octets(16)),
        namedtype.NamedType("callerTerminalId", _name()),
        namedtype.NamedType("calleeEndpointIdentifier", _name()),
        namedtype.NamedType("expires", _integer(0, 2**63 - 1)),
        namedtype.NamedType("signature", _octets(SIGNATURE_LENGTH)),
    )


_SERVICE_TABLE: Final = der.table(ServiceSchema())
_CALL_TABLE: Final = der.table(CallTokenSchema())


def open_session(
    confirm: RasMessage,
    *,
    request: bytes,
    terminal_exchange: bytes,
    key: KeyPair,
    epoch: int,
    challenge: bytes,
) -> tuple[bytes, Session]:
    """Gatekeeper: sign the RCF ``confirm`` and derive the session that it opens.

    ``request`` is the RRQ as received, ``terminal_exchange`` the X25519 key (32 octets) in its credential, ``challenge``
    32 fresh random octets, ``epoch`` grows with each start of the daemon. Returns the PDU and the session. Raises
    SecurityError for a key of small order, EncodeError.
    """
    exchange = Exchange.generate()
    shared = exchange.shared_with(terminal_exchange)
    digest = hashlib.sha256(request).digest()
    data = der.encode(_SERVICE_TABLE, (_VERSION, key.key_id, epoch, exchange.public, digest, _PLACEHOLDER))
    pdu = bytearray(encode_ras(with_tokens(confirm, clear_token(SERVICE, data, challenge))))
    at = _blank_signature(pdu, data)
    session = Session(_session_key(shared, _transcript(request, pdu), confirm, epoch), challenge, epoch)
    pdu[at : at + SIGNATURE_LENGTH] = key.sign(_service_input(data, challenge, pdu))
    return bytes(pdu), session


def accept_session(pdu: bytes, message: RasMessage, *, request: bytes, exchange: Exchange, service_key: bytes) -> Session:
    """Terminal: check that the holder of the pinned ``service_key`` (32 octets) answered our RRQ, and derive the session.

    ``message`` is what the RCF ``pdu`` decodes to, ``request`` the RRQ as sent, ``exchange`` the pair whose public half
    it carried. Raises SecurityError saying what failed.
    """
    token = find_token(message, SERVICE)
    if token is None or message[0] != "registrationConfirm":
        raise SecurityError("the gatekeeper's answer is not signed")
    data = token_data(token, SERVICE)
    _, key, epoch, gatekeeper_exchange, digest, signature = der.decode(_SERVICE_TABLE, data)
    challenge = token_challenge(token)
    if key != key_id(service_key):
        raise SecurityError("another key signed the gatekeeper's answer than the pinned one")
    blanked = bytearray(pdu)
    _blank_signature(blanked, data)
    verify_signature(service_key, _service_input(data, challenge, blanked), signature)
    if not hmac.compare_digest(digest, hashlib.sha256(request).digest()):
        raise SecurityError("the gatekeeper's answer belongs to another request")
    shared = exchange.shared_with(gatekeeper_exchange)
    return Session(_session_key(shared, _transcript(request, blanked), message, epoch), challenge, epoch)


def _blank_signature(pdu: bytearray, data: bytes) -> int:
    at = locate(pdu, data) + len(data) - SIGNATURE_LENGTH
    pdu[at : at + SIGNATURE_LENGTH] = bytes(SIGNATURE_LENGTH)
    return at


def _service_input(data: bytes, challenge: bytes, blanked: bytearray) -> bytes:
    return frame(_SERVICE_DOMAIN, data[:-SIGNATURE_LENGTH], challenge, hashlib.sha256(blanked).digest())


def _transcript(request: bytes, blanked: bytearray) -> bytes:
    return hashlib.sha256(request + blanked).digest()


def _session_key(shared: bytes, salt: bytes, confirm: RasMessage, epoch: int) -> bytes:
    info = frame(_SESSION_DOMAIN, confirm[1]["endpointIdentifier"].encode(), epoch.to_bytes(8, "big"))
    return hkdf_sha256(shared, salt=salt, info=info, length=_KEY_LENGTH)


@dataclass(frozen=True, slots=True)
class CallToken:
    """What the gatekeeper tells the callee of a direct call: who calls it, and until when (``expires``, Unix seconds)."""

    call_identifier: bytes
    caller_terminal_id: str
    callee_endpoint_identifier: str
    expires: int


def sign_call_token(call: CallToken, key: KeyPair) -> dict[str, Any]:
    """Return the ClearToken for the ACF, from where it goes into Setup and the callee's ARQ. Raises EncodeError."""
    members = (_VERSION, key.key_id, call.call_identifier, call.caller_terminal_id, call.callee_endpoint_identifier, call.expires)
    unsigned = der.encode(_CALL_TABLE, (*members, bytes(SIGNATURE_LENGTH)))[:-SIGNATURE_LENGTH]
    return clear_token(CALL_TOKEN, unsigned + key.sign(frame(_CALL_DOMAIN, unsigned)))


def verify_call_token(
    message: RasMessage,
    public_key: bytes,
    *,
    call_identifier: bytes,
    callee_endpoint_identifier: str,
    wall: float,
) -> CallToken:
    """Check the call token that the callee returned in its ARQ ``message``; ``wall`` in Unix seconds.

    Raises SecurityError where there is none, we (``public_key``) did not sign it, it is for another call or callee, or
    it is out of date.
    """
    token = find_token(message, CALL_TOKEN)
    if token is None:
        raise SecurityError("the message carries no call token")
    data = token_data(token, CALL_TOKEN)
    _, key, *members, signature = der.decode(_CALL_TABLE, data)
    call = CallToken(*members)
    if key != key_id(public_key):
        raise SecurityError("another key signed the call token")
    verify_signature(public_key, frame(_CALL_DOMAIN, data[:-SIGNATURE_LENGTH]), signature)
    if call.call_identifier != call_identifier or call.callee_endpoint_identifier != callee_endpoint_identifier:
        raise SecurityError("the call token belongs to another call")
    if wall > call.expires:
        raise SecurityError("the call token is out of date")
    return call
