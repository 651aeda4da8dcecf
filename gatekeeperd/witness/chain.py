"""The hash chain: how a record becomes a line, what a node signs, and how a line is read back.

What lives here: record fields, hashes, signed statements. All pure: the time is an argument.
What never does: files (``files.py``), judging a whole log (``verify.py``).

A line is the canonical JSON (RFC 8785) of a record, and a newline. Its ``hash`` is the SHA-256 of the canonical JSON of the
record without that member, so it is also the SHA-256 of the line with those octets cut out; reading needs no re-encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from gatekeeperd.core.actions import Json, Record
from gatekeeperd.errors import CanonicalError, OtherKeyError, WitnessError
from gatekeeperd.security.keys import key_id
from gatekeeperd.witness.canonical import canonical

#: The members of a record, in canonical order.
FIELDS: Final = ("epoch", "event", "hash", "index", "node", "payload", "prev_hash", "time", "trace_id")

#: A line longer than this is refused at writing and broken at reading; ours are some 400 octets.
MAX_LINE: Final = 1 << 18

#: ``trace_id`` of records that tell of the log itself and of no guardian's business.
NO_TRACE: Final = "0" * 32

#: Events that the log writes about itself.
CHECKPOINT: Final = "checkpoint"
SEAL: Final = "seal"
RESUMED: Final = "resumed"

#: What a signature is for: one made for a checkpoint can't pass as a head or an anchor.
CHECKPOINT_DOMAIN: Final = b"guardian-council/witness/checkpoint/1\0"
HEAD_DOMAIN: Final = b"guardian-council/witness/head/1\0"
ANCHOR_DOMAIN: Final = b"guardian-council/witness/anchor/1\0"

_HASH_MEMBER: Final = b',"hash":"'
_HASH_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the index of its last record and that record's hash (64 hexadecimal digits)."""

    index: int
    hash: str


#: The head of an empty chain: what the first record's ``prev_hash`` names.
GENESIS: Final = Head(0, "0" * _HASH_DIGITS)


def utc(nanoseconds: int) -> datetime:
    """Return a UTC time, to the microsecond, of nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def timestamp(moment: datetime) -> str:
    """Return ``2026-01-31T23:59:59.000001Z``: ISO 8601, UTC, always six decimals, so that text order is time order."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a chain: the node's name, the epoch of this run, and the node's Ed25519 key."""

    node: str
    epoch: int
    key: SigningKey

    def seal(self, head: Head, record: Record, time: str) -> tuple[Head, bytes]:
        """Return the head after ``record`` and its line (with the newline).

        Raises CanonicalError when the payload has no canonical form or the line would exceed ``MAX_LINE`` octets.
        """
        index = head.index + 1
        payload = record.payload if type(record.payload) is dict else dict(record.payload)
        try:
            before = f'{{"epoch":{self.epoch},"event":{encode_basestring(record.event)}'.encode()
            after = (
                f',"index":{index},"node":{encode_basestring(self.node)},"payload":'.encode()
                + canonical(payload)
                + f',"prev_hash":"{head.hash}","time":"{time}","trace_id":{encode_basestring(record.trace_id)}}}'.encode()
            )
        except UnicodeEncodeError:
            raise CanonicalError("lone surrogate in a record's event, trace_id or node") from None
        if len(before) + len(after) > MAX_LINE - 128:
            raise CanonicalError(f"a {record.event} record of {len(before) + len(after)} octets is too long for the log")
        digest = sha256(before + after).hexdigest()
        return Head(index, digest), b'%b,"hash":"%b"%b\n' % (before, digest.encode(), after)

    def checkpoint(self, head: Head) -> Record:
        """Return the record that signs everything up to ``head``; it has to be sealed right after it."""
        name = key_id(bytes(self.key.verify_key)).hex()
        statement = _checkpoint_statement(head, node=self.node, epoch=self.epoch, key=name)
        signature = self.key.sign(CHECKPOINT_DOMAIN + canonical(statement)).signature.hex()
        return Record(
            CHECKPOINT,
            NO_TRACE,
            {"index": head.index, "head_hash": head.hash, "key_id": name, "signature": signature},
        )

    def statement(self, domain: bytes, head: Head, time: str, **more: Json) -> bytes:
        """Return a signed statement about ``head`` as a file's content: canonical JSON and a newline."""
        body: dict[str, Json] = {
            "epoch": self.epoch,
            "hash": head.hash,
            "index": head.index,
            "key_id": key_id(bytes(self.key.verify_key)).hex(),
            "node": self.node,
            "time": time,
            **more,
        }
        body["signature"] = self.key.sign(domain + canonical(body)).signature.hex()
        return canonical(body) + b"\n"


def _checkpoint_statement(head: Head, *, node: Json, epoch: Json, key: Json) -> dict[str, Json]:
    return {"epoch": epoch, "hash": head.hash, "index": head.index, "key_id": key, "node": node}


def check_checkpoint(record: Mapping[str, Any], key: VerifyKey) -> None:
    """Raise WitnessError unless ``record`` is a checkpoint that ``key`` signed and that tells of the record before it."""
    payload = record["payload"]
    head = Head(record["index"] - 1, record["prev_hash"])
    if payload.get("index") != head.index or payload.get("head_hash") != head.hash:
        raise WitnessError("the checkpoint signs another record than the one before it")
    _check_key_id("the checkpoint", payload.get("key_id"), key)
    statement = _checkpoint_statement(head, node=record["node"], epoch=record["epoch"], key=payload["key_id"])
    try:
        octets = canonical(statement)
    except CanonicalError as error:
        raise WitnessError(f"the checkpoint tells of what can't be signed: {error}") from error
    _check_signature(CHECKPOINT_DOMAIN, octets, payload.get("signature"), key)


def read_statement(domain: bytes, octets: bytes, key: VerifyKey) -> tuple[Head, dict[str, Any]]:
    """Return head and members of a signed statement.

    Raises WitnessError unless it is exactly what ``Author.statement`` writes and ``key`` signed it.
    """
    try:
        body = json.loads(octets.decode())
        if canonical(body) + b"\n" != octets:
            raise WitnessError("the statement is not in canonical form")
        signature = body.pop("signature")
        head = Head(body["index"], body["hash"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WitnessError("the statement is not a signed JSON object") from error
    _check_key_id("the statement", body.get("key_id"), key)
    _check_signature(domain, canonical(body), signature, key)
    return head, body


def _check_key_id(what: str, named: object, key: VerifyKey) -> None:
    wanted = key_id(bytes(key)).hex()
    if named != wanted:
        raise OtherKeyError(f"{what} is signed by the key {named!a:.40}, not by {wanted}", str(named))


def _check_signature(domain: bytes, statement: bytes, signature: object, key: VerifyKey) -> None:
    try:
        key.verify(domain + statement, bytes.fromhex(str(signature)))
    except (BadSignatureError, ValueError) as error:
        raise WitnessError("the signature does not hold") from error


def read_line(line: bytes) -> dict[str, Any]:
    """Return the record of one whole ``line`` (with its newline).

    Raises WitnessError unless it has every field, each of its type, and the hash that it names.
    """
    at = line.find(_HASH_MEMBER)  # no string before it can hold these octets: quotes are escaped in JSON
    start = at + len(_HASH_MEMBER)
    end = start + _HASH_DIGITS
    if at < 0 or len(line) > MAX_LINE or not line.endswith(b"}\n"):
        raise WitnessError("not a whole record")
    claimed = line[start:end]
    if sha256(line[:at] + line[end + 1 : -1]).hexdigest().encode() != claimed or line[end : end + 1] != b'"':
        raise WitnessError("the content does not match the hash")
    try:
        record: dict[str, Any] = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise WitnessError("not JSON") from error
    if tuple(record) != FIELDS or type(record["index"]) is not int or type(record["epoch"]) is not int:
        raise WitnessError("not the fields of a record")
    if type(record["payload"]) is not dict or type(record["time"]) is not str:
        raise WitnessError("not the fields of a record")
    return record
