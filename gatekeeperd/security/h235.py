"""Passwords of terminals that can't sign: H.235.0 MD5 password hashes and H.235.1 procedure I (HMAC-SHA1-96).

What lives here: making and verifying both tokens. What never does: whose password it is, and remembering what came before
(``replay.SeenOnce``).

An MD5 hash proves that the sender knew the password at that second, and nothing about the message around it: within 30 s it can
be moved to another message. H.235.1 covers the whole message. Neither is as good as a credential.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gatekeeperd.errors import EncodeError, SecurityError
from gatekeeperd.security.oids import H2351_A, H2351_T, HMAC_SHA1_96, MD5
from gatekeeperd.security.tokens import RasMessage, items, locate
from gatekeeperd.wire.h225 import encode_ras
from gatekeeperd.wire.schema import default_schema

#: An H.225.0 AliasAddress, e.g. ``("h323-ID", "alice")``.
AliasAddress: TypeAlias = tuple[str, Any]

#: How far two clocks may differ, seconds.
MAX_SKEW_S: Final = 30.0
HASH_LENGTH: Final = 12

_MD5_BITS: Final = 128
_HASH_BITS: Final = HASH_LENGTH * 8
#: Stands for the hash until it is known. Random, so that no alias that a peer chose can contain it.
_PLACEHOLDER: Final = secrets.token_bytes(HASH_LENGTH)
#: H.235 names the PwdCertToken, a ClearToken without a type of its own, by this identifier.
_NO_OID: Final = (0, 0)
_CLEAR_TOKEN: Final = default_schema.codec("H235.ClearToken", max_octets=2048, max_items=16)


@dataclass(frozen=True, slots=True)
class PasswordProof:
    """What an MD5 token that holds proves: ``alias`` knew the password at ``time_stamp`` (Unix seconds)."""

    alias: AliasAddress
    time_stamp: int


@dataclass(frozen=True, slots=True)
class HashedToken:
    """The fields of an H.235.1 token. ``random`` and ``time_stamp`` (Unix seconds) together occur once a sender."""

    senders_id: str
    general_id: str | None
    random: int
    time_stamp: int
    hash_octets: bytes


def password_token(alias: AliasAddress, password: str, time_stamp: int) -> tuple[str, dict[str, Any]]:
    """Return a ``CryptoH323Token`` (cryptoEPPwdHash) for ``cryptoTokens``. Raises EncodeError where a name is too long."""
    token = {"algorithmOID": MD5, "paramS": {}, "hash": (int.from_bytes(_md5(alias, password, time_stamp), "big"), _MD5_BITS)}
    return "cryptoEPPwdHash", {"alias": alias, "timeStamp": time_stamp, "token": token}


def read_password(message: RasMessage) -> dict[str, Any] | None:
    """Return the cryptoEPPwdHash of ``message``, None where there is none. Raises SecurityError where there are several."""
    found = [value for name, value in items(message, "cryptoTokens") if name == "cryptoEPPwdHash"]
    if len(found) > 1:
        raise SecurityError("a message carries several password hashes")
    return found[0] if found else None


def verify_password(message: RasMessage, password: str, *, wall: float) -> PasswordProof:
    """Check the MD5 password hash that ``message`` carries; ``wall`` in Unix seconds. Raises SecurityError."""
    value = read_password(message)
    if value is None:
        raise SecurityError("the message carries no password hash")
    alias, time_stamp, token = value["alias"], value["timeStamp"], value["token"]
    if token["algorithmOID"] != MD5 or token["hash"][1] != _MD5_BITS or not isinstance(alias[1], str):
        raise SecurityError("the password hash is not MD5 over a name")
    _check_time(time_stamp, wall)
    try:
        digest = _md5(alias, password, time_stamp)
    except EncodeError:
        raise SecurityError("the password hash is over a name that none can be over") from None
    if not hmac.compare_digest(digest, token["hash"][0].to_bytes(16, "big")):
        raise SecurityError("the password hash does not hold")
    return PasswordProof(alias, time_stamp)


def _md5(alias: AliasAddress, password: str, time_stamp: int) -> bytes:
    # H.235.0 clause 8.2.2 leaves the strings' form open; all peers that we met hash them with a NUL behind.
    token = {"tokenOID": _NO_OID, "timeStamp": time_stamp, "password": password + "\0", "generalID": alias[1] + "\0"}
    return hashlib.md5(_CLEAR_TOKEN.encode(token), usedforsecurity=False).digest()


def sign_hashed(
    message: RasMessage,
    *,
    password: str,
    senders_id: str,
    general_id: str | None,
    random: int,
    time_stamp: int,
) -> bytes:
    """Encode ``message`` with an H.235.1 token (procedure I) behind its other crypto tokens.

    ``general_id`` names the recipient, None where it isn't known yet (GRQ). Raises EncodeError.
    """
    name, fields = message
    values = {"tokenOID": H2351_T, "timeStamp": time_stamp, "random": random, "sendersID": senders_id}
    if general_id is not None:
        values["generalID"] = general_id
    placeholder = {"algorithmOID": HMAC_SHA1_96, "paramS": {}, "hash": (int.from_bytes(_PLACEHOLDER, "big"), _HASH_BITS)}
    token = ("nestedcryptoToken", ("cryptoHashedToken", {"tokenOID": H2351_A, "hashedVals": values, "token": placeholder}))
    pdu = bytearray(encode_ras((name, {**fields, "cryptoTokens": [*fields.get("cryptoTokens", ()), token]})))
    at, digest = _hash(pdu, _PLACEHOLDER, password)
    pdu[at : at + HASH_LENGTH] = digest
    return bytes(pdu)


def read_hashed(message: RasMessage) -> HashedToken | None:
    """Return the H.235.1 token of ``message``, None where there is none.

    Raises SecurityError where there are several or it is not procedure I with HMAC-SHA1-96 over the whole message.
    """
    found = [
        token[1]
        for name, token in items(message, "cryptoTokens")
        if name == "nestedcryptoToken" and token[0] == "cryptoHashedToken"
    ]
    if not found:
        return None
    if len(found) > 1:
        raise SecurityError("a message carries several hashed tokens")
    values, token = found[0]["hashedVals"], found[0]["token"]
    if (found[0]["tokenOID"], values["tokenOID"], token["algorithmOID"]) != (H2351_A, H2351_T, HMAC_SHA1_96):
        raise SecurityError("a hashed token is not of H.235.1 procedure I with HMAC-SHA1-96")
    if token["hash"][1] != _HASH_BITS or not {"sendersID", "random", "timeStamp"} <= values.keys():
        raise SecurityError("a hashed token lacks sendersID, random, timeStamp or its 96 bit hash")
    general_id = values.get("generalID")
    return HashedToken(
        _name(values["sendersID"]),
        None if general_id is None else _name(general_id),
        values["random"],
        values["timeStamp"],
        token["hash"][0].to_bytes(HASH_LENGTH, "big"),
    )


def verify_hashed(
    pdu: bytes,
    message: RasMessage,
    *,
    password: str,
    senders_id: str,
    general_id: str | None,
    wall: float,
) -> HashedToken:
    """Check the H.235.1 token of a received PDU, ``message`` being what it decodes to; ``wall`` in Unix seconds.

    ``senders_id`` is who it must come from, ``general_id`` us, None where the sender can't know that yet (GRQ). Raises
    SecurityError saying what failed.
    """
    token = read_hashed(message)
    if token is None:
        raise SecurityError("the message carries no hashed token")
    if token.senders_id != senders_id:
        raise SecurityError("the hashed token names another sender")
    if general_id is not None and token.general_id != general_id:
        raise SecurityError("the hashed token is for another recipient")
    _check_time(token.time_stamp, wall)
    _, digest = _hash(bytearray(pdu), token.hash_octets, password)
    if not hmac.compare_digest(digest, token.hash_octets):
        raise SecurityError("the hashed token does not hold")
    return token


def _hash(pdu: bytearray, stated: bytes, password: str) -> tuple[int, bytes]:
    """Put zeros where ``stated`` stands in ``pdu``; return its offset and the right hash. Raises SecurityError."""
    at = locate(pdu, stated)
    pdu[at : at + HASH_LENGTH] = bytes(HASH_LENGTH)
    # H.235.1 clause 7: the key is the SHA-1 of the password.
    key = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return at, hmac.digest(key, pdu, "sha1")[:HASH_LENGTH]


def _name(identifier: str) -> str:
    # Some peers count the NUL behind a BMPString as part of it.
    return identifier.removesuffix("\0")


def _check_time(time_stamp: int, wall: float) -> None:
    if abs(time_stamp - wall) > MAX_SKEW_S:
        raise SecurityError("the token's timestamp is more than 30 s off")
