"""A guardian's signature over an HTTP request that has no body to carry one.

What lives here: the four headers, the octets that are signed, and their check. What never does: what the guardian may
then do (``net/api.py``).

Signed are, each preceded by its length in four octets: a domain tag, the method, the path, the guardian's terminal_id,
the timestamp and the nonce. Nothing of it can be moved to another request, and a nonce is taken once.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Final

from gatekeeperd.errors import SecurityError
from gatekeeperd.policy.registry import Guardian, GuardianStatus, Registry
from gatekeeperd.security.keys import KeyPair, verify_signature
from gatekeeperd.security.replay import SeenOnce

ID_HEADER: Final = "X-Guardian-Id"
TIMESTAMP_HEADER: Final = "X-Guardian-Timestamp"
NONCE_HEADER: Final = "X-Guardian-Nonce"
SIGNATURE_HEADER: Final = "X-Guardian-Signature"

#: Clocks may differ by this much where a timestamp is used at all.
MAX_SKEW_S: Final = 30
_DOMAIN: Final = b"guardian-council/http-request/1"
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_NONCE: Final = re.compile(r"[0-9a-f]{32}")
_SIGNATURE: Final = re.compile(r"ed25519:([0-9a-f]{128})")


def sign_request(method: str, path: str, key: KeyPair, *, timestamp: int) -> dict[str, str]:
    """Make the headers that sign ``method`` and ``path``; ``timestamp`` is POSIX seconds. Each call has a new nonce.

    Raises SecurityError when the key does not say whose it is.
    """
    if key.terminal_id is None:
        raise SecurityError("the key file names no terminal_id")
    nonce = secrets.token_hex(16)
    signature = key.sign(_octets(method, path, key.terminal_id, str(timestamp), nonce))
    return {
        ID_HEADER: key.terminal_id,
        TIMESTAMP_HEADER: str(timestamp),
        NONCE_HEADER: nonce,
        SIGNATURE_HEADER: f"ed25519:{signature.hex()}",
    }


def verify_request(
    method: str, path: str, headers: Mapping[str, str], registry: Registry, *, wall: float, started: float, seen: SeenOnce
) -> Guardian:
    """Return the active guardian that signed. Raises SecurityError.

    ``wall`` is POSIX seconds; ``seen`` remembers nonces since ``started``, and nothing signed before is taken.
    """
    terminal_id, timestamp = headers.get(ID_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    nonce, signature = headers.get(NONCE_HEADER, ""), _SIGNATURE.fullmatch(headers.get(SIGNATURE_HEADER, ""))
    if not _TIMESTAMP.fullmatch(timestamp) or not _NONCE.fullmatch(nonce) or signature is None:
        raise SecurityError("a signature header is missing or malformed")
    guardian = registry.get(terminal_id)
    if guardian is None or guardian.status is not GuardianStatus.ACTIVE:
        raise SecurityError("signed by nobody whom the registry knows as active")
    verify_signature(guardian.public_key, _octets(method, path, terminal_id, timestamp, nonce), bytes.fromhex(signature[1]))
    if abs(int(timestamp) - wall) > MAX_SKEW_S:
        raise SecurityError(f"signed {int(timestamp) - wall:+.0f} s from now")
    if int(timestamp) < int(started):
        raise SecurityError("signed before the gatekeeper started")
    if not seen.accept(guardian.terminal_id, nonce, wall):
        raise SecurityError("the nonce was used before")
    return guardian


def _octets(*fields: str) -> bytes:
    return b"".join(len(octets).to_bytes(4) + octets for octets in (_DOMAIN, *(field.encode() for field in fields)))
