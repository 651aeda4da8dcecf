import hashlib
import json

import pytest
from nacl.signing import SigningKey
from witness_logs import KEY

from gatekeeperd.core.actions import Record
from gatekeeperd.errors import CanonicalError, WitnessError
from gatekeeperd.security.keys import key_id
from gatekeeperd.witness.canonical import canonical
from gatekeeperd.witness.chain import (
    ANCHOR_DOMAIN,
    GENESIS,
    HEAD_DOMAIN,
    MAX_LINE,
    Author,
    Head,
    check_checkpoint,
    read_line,
    read_statement,
    timestamp,
    utc,
)

AUTHOR = Author("node-ä", 7, KEY)
TIME = "2026-03-28T12:00:00.000001Z"
RECORD = Record("admission", "ab" * 16, {"z": [1, None], "a": 'quote " and ü', "hash": ',"hash":"'})


def test_a_line_is_the_canonical_record_and_its_hash_is_that_of_the_record_without_it():
    head, line = AUTHOR.seal(Head(41, "cd" * 32), RECORD, TIME)
    record = json.loads(line)
    assert line == canonical(record) + b"\n"
    assert record == {
        "index": 42,
        "time": TIME,
        "node": "node-ä",
        "epoch": 7,
        "event": "admission",
        "trace_id": "ab" * 16,
        "payload": RECORD.payload,
        "prev_hash": "cd" * 32,
        "hash": head.hash,
    }
    del record["hash"]
    assert head == Head(42, hashlib.sha256(canonical(record)).hexdigest())
    assert read_line(line)["payload"] == RECORD.payload


def test_an_event_that_looks_like_the_hash_member_does_not_confuse_the_reader():
    _, line = AUTHOR.seal(GENESIS, Record('x","hash":"' + "0" * 64, "", {}), TIME)
    assert read_line(line)["event"] == 'x","hash":"' + "0" * 64


@pytest.mark.parametrize(
    "record",
    [
        Record("event\ud800", "", {}),
        Record("event", "\udfff", {}),
        Record("event", "", {"ratio": 0.5}),
        Record("event", "", {"blob": "x" * MAX_LINE}),
    ],
)
def test_what_can_not_be_a_line_is_refused(record):
    with pytest.raises(CanonicalError):
        AUTHOR.seal(GENESIS, record, TIME)


@pytest.mark.parametrize(
    "mend",
    [
        lambda line: line[:-1],
        lambda line: line.replace(b'"granted":true', b'"granted":null'),
        lambda line: line.replace(b"{", b"{ ", 1),
        lambda _line: b"\n",
        lambda line: line[:-2] + b',"x":1}\n',
        lambda _line: b"[" * 10_000 + b"\n",
    ],
)
def test_a_line_that_was_touched_is_not_read(mend):
    _, line = AUTHOR.seal(GENESIS, Record("admission", "", {"granted": True}), TIME)
    assert read_line(line)
    with pytest.raises(WitnessError):
        read_line(mend(line))


def _self_consistent(text: bytes) -> bytes:
    """A line whose hash matches its octets, whatever they are: what a forger writes who knows no key."""
    at = text.index(b',"index"')
    return text[:at] + b',"hash":"' + hashlib.sha256(text).hexdigest().encode() + b'"' + text[at:] + b"\n"


@pytest.mark.parametrize(
    "text",
    [
        b'{"epoch":1,"event":"e","index":1,"node":"n","payload":{},"prev_hash":"","time":""}',
        b'{"epoch":1,"event":"e","index":"1","node":"n","payload":{},"prev_hash":"","time":"","trace_id":""}',
        b'{"epoch":1,"event":"e","index":1,"node":"n","payload":[],"prev_hash":"","time":"","trace_id":""}',
        b'{"epoch":1,"event":"e","index":1,"node":"n","payload":{"a":'
        + b"[" * 9000
        + b"]" * 9000
        + b'},"prev_hash":"","time":"","trace_id":""}',
        b'{"epoch":1,"event":"e","index":1,"node":"\xff","payload":{},"prev_hash":"","time":"","trace_id":""}',
        b'{"epoch":1,"event":"e","index":1,,}',
    ],
)
def test_a_forged_line_with_a_right_hash_and_wrong_fields_is_not_read(text):
    with pytest.raises(WitnessError):
        read_line(_self_consistent(text))


def _checkpoint(author: Author, head: Head) -> dict:
    return json.loads(author.seal(head, author.checkpoint(head), TIME)[1])


def test_a_checkpoint_is_an_ed25519_signature_over_domain_and_head():
    head = Head(9, "ef" * 32)
    record = _checkpoint(AUTHOR, head)
    check_checkpoint(record, KEY.verify_key)
    signed = {"epoch": 7, "hash": head.hash, "index": 9, "key_id": key_id(bytes(KEY.verify_key)).hex(), "node": "node-ä"}
    message = b"guardian-council/witness/checkpoint/1\0" + canonical(signed)
    KEY.verify_key.verify(message, bytes.fromhex(record["payload"]["signature"]))
    assert set(record["payload"]) == {"index", "head_hash", "key_id", "signature"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("epoch", 8), ("node", "node-b"), ("node", 0.5), ("index", 11), ("prev_hash", "00" * 32)],
)
def test_a_checkpoint_signs_its_node_its_epoch_and_its_place(field, value):
    record = _checkpoint(AUTHOR, Head(9, "ef" * 32))
    record[field] = value
    with pytest.raises(WitnessError):
        check_checkpoint(record, KEY.verify_key)


@pytest.mark.parametrize(
    ("field", "value"), [("index", 8), ("head_hash", "00" * 32), ("key_id", 1), ("signature", "zz"), ("signature", None)]
)
def test_a_checkpoint_whose_payload_was_touched_does_not_hold(field, value):
    record = _checkpoint(AUTHOR, Head(9, "ef" * 32))
    record["payload"][field] = value
    with pytest.raises(WitnessError):
        check_checkpoint(record, KEY.verify_key)


def test_another_node_s_key_does_not_verify():
    with pytest.raises(WitnessError, match="signed by the key"):
        check_checkpoint(_checkpoint(AUTHOR, GENESIS), SigningKey.generate().verify_key)


def test_a_statement_is_read_back_and_only_for_what_it_was_signed_for():
    octets = AUTHOR.statement(HEAD_DOMAIN, Head(5, "aa" * 32), TIME, day="20260328")
    head, body = read_statement(HEAD_DOMAIN, octets, KEY.verify_key)
    assert head == Head(5, "aa" * 32)
    assert body["day"] == "20260328"
    with pytest.raises(WitnessError):
        read_statement(ANCHOR_DOMAIN, octets, KEY.verify_key)


@pytest.mark.parametrize(
    "octets", [b"", b"[]\n", b"{}\n", b"nonsense", b'{"index":1}\n', b"[" * 50_000, b"\xff\n", b'{"signature":1.5}\n']
)
def test_what_is_no_statement_is_refused(octets):
    with pytest.raises(WitnessError):
        read_statement(HEAD_DOMAIN, octets, KEY.verify_key)


def test_times_are_text_that_sorts_as_time():
    assert timestamp(utc(1_774_699_200_000_001_999)) == "2026-03-28T12:00:00.000001Z"
    assert timestamp(utc(0)) == "1970-01-01T00:00:00.000000Z"
