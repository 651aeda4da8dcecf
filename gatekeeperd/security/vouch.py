"""A guardian vouches over HTTPS for a terminal that cannot sign: the signature in the body of an admission request.

What lives here: signing and verifying that body. What never does: HTTP, and whether what it asks for is granted.

The signature is Ed25519 over the canonical JSON (RFC 8785) of the body without its ``signature``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gatekeeperd.errors import CanonicalError, ConfigurationError, SecurityError
from gatekeeperd.security.keys import KeyPair, parse_public_key, verify_signature
from gatekeeperd.security.replay import SeenOnce
from gatekeeperd.witness.canonical import MAX_INTEGER, canonical

#: How far two clocks may differ, seconds.
MAX_SKEW_S: Final = 30.0
_PREFIX: Final = "ed25519:"


def sign_vouch(body: Mapping[str, Any], key: KeyPair) -> dict[str, Any]:
    """Return ``body`` with its ``signature``. ``body`` has ``timestamp`` (Unix seconds, int) and ``nonce`` (32 hex digits)."""
    return {**body, "signature": _PREFIX + key.sign(_signed_octets(body)).hex()}


def verify_vouch(body: Mapping[str, Any], public_key: bytes, *, wall: float, seen: SeenOnce) -> None:
    """Check that the holder of ``public_key`` (the registry's, 32 octets) signed ``body``, now (``wall``) and once.

    Raises SecurityError saying what failed. ``seen`` remembers the nonce of a body that holds, by its ``terminal_id``.
    """
    stated = body.get("public_key")
    if stated is not None and not _same_key(stated, public_key):
        raise SecurityError("the request brings another key than the registry's")
    timestamp, nonce = body.get("timestamp"), body.get("nonce")
    # type(): True is an int. The bound keeps the subtraction below within what a float can hold.
    if type(timestamp) is not int or not 0 <= timestamp <= MAX_INTEGER:
        raise SecurityError("the request has no timestamp")
    if not isinstance(nonce, str) or not re.fullmatch(r"[0-9a-f]{32}", nonce):
        raise SecurityError("the request has no nonce of 32 hexadecimal digits")
    if abs(timestamp - wall) > MAX_SKEW_S:
        raise SecurityError("the request's timestamp is more than 30 s off")
    verify_signature(public_key, _signed_octets(body), _signature(body.get("signature")))
    if not seen.accept(str(body.get("terminal_id")), nonce, wall):
        raise SecurityError("the request was sent before")


def _signed_octets(body: Mapping[str, Any]) -> bytes:
    try:
        return canonical({name: value for name, value in body.items() if name != "signature"})
    except CanonicalError as error:
        raise SecurityError(f"the request can't be signed: {error}") from None


def _same_key(stated: object, public_key: bytes) -> bool:
    try:
        return isinstance(stated, str) and parse_public_key(stated) == public_key
    except ConfigurationError:
        return False


def _signature(stated: object) -> bytes:
    if not isinstance(stated, str) or not re.fullmatch(r"ed25519:[0-9a-f]{128}", stated):
        raise SecurityError("the request has no signature: ed25519: and 128 hexadecimal digits")
    return bytes.fromhex(stated.removeprefix(_PREFIX))
