"""Vouching over HTTPS: the body holds as signed, by the registry's key, now, once."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey
from security_samples import GUARDIAN, OTHER, TERMINAL_ID

from gatekeeperd.errors import SecurityError
from gatekeeperd.security.keys import format_public_key
from gatekeeperd.security.replay import SeenOnce
from gatekeeperd.security.vouch import sign_vouch, verify_vouch

NOW = 1_800_000_000
BODY = {
    "terminal_id": TERMINAL_ID,
    "call_id": "call-1",
    "call_type": "ROUTINE",
    "bandwidth_bps": 768_000,
    "has_pii": False,
    "timestamp": NOW,
    "nonce": "0123456789abcdef" * 2,
    "endpoint_alias": "Räum 7 \u20ac",
    "endpoint_address": "192.0.2.7",
}


def verify(body, wall=NOW, seen=None):
    verify_vouch(body, GUARDIAN.public, wall=wall, seen=SeenOnce() if seen is None else seen)


def test_a_signed_body_holds_after_its_trip_as_json():
    signed = sign_vouch(BODY, GUARDIAN)
    assert {name: signed[name] for name in BODY} == BODY
    verify(json.loads(json.dumps(signed, indent=4)))
    verify(json.loads(json.dumps(dict(reversed(signed.items())))))


def test_the_signature_is_over_rfc_8785_octets():
    octets = json.dumps(BODY, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    VerifyKey(GUARDIAN.public).verify(octets, bytes.fromhex(sign_vouch(BODY, GUARDIAN)["signature"].removeprefix("ed25519:")))


@pytest.mark.parametrize(
    "changed",
    [
        {"terminal_id": "if://guardian/ethics"},
        {"call_id": "call-2"},
        {"call_type": "EMERGENCY"},
        {"bandwidth_bps": 768_001},
        {"has_pii": True},
        {"has_pii": 0},
        {"timestamp": NOW + 1},
        {"nonce": "f" * 32},
        {"endpoint_alias": "Raum 7"},
        {"endpoint_address": "192.0.2.8"},
        {"unknown": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_field_counts(changed):
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify({**sign_vouch(BODY, GUARDIAN), **changed})


@pytest.mark.parametrize("name", BODY)
def test_each_field_counts_when_it_is_gone(name):
    signed = sign_vouch(BODY, GUARDIAN)
    del signed[name]
    with pytest.raises(SecurityError):
        verify(signed)


@pytest.mark.parametrize("skew", [-30, 0, 30])
def test_clocks_may_differ_by_30_s(skew):
    verify(sign_vouch(BODY, GUARDIAN), wall=NOW + skew)


@pytest.mark.parametrize("skew", [-30.1, 31, 3600])
def test_clocks_may_not_differ_by_more(skew):
    with pytest.raises(SecurityError, match="30 s"):
        verify(sign_vouch(BODY, GUARDIAN), wall=NOW + skew)


def test_a_body_holds_once():
    seen = SeenOnce()
    verify(sign_vouch(BODY, GUARDIAN), seen=seen)
    with pytest.raises(SecurityError, match="before"):
        verify(sign_vouch(BODY, GUARDIAN), seen=seen)
    verify(sign_vouch({**BODY, "nonce": "f" * 32}, GUARDIAN), seen=seen)


def test_a_forged_body_takes_no_nonce():
    seen = SeenOnce()
    with pytest.raises(SecurityError, match="signature does not hold"):
        verify(sign_vouch(BODY, OTHER), seen=seen)
    verify(sign_vouch(BODY, GUARDIAN), seen=seen)


def test_a_public_key_must_be_the_registrys():
    verify(sign_vouch({**BODY, "public_key": format_public_key(GUARDIAN.public)}, GUARDIAN))
    for key in (format_public_key(OTHER.public), "rubbish", 7):
        with pytest.raises(SecurityError, match="another key"):
            verify(sign_vouch({**BODY, "public_key": key}, OTHER))


@pytest.mark.parametrize("signature", [None, 7, "", "ed25519:", "00" * 64, "ed25519:" + "0" * 127, "ed25519:" + "G" * 128])
def test_a_malformed_signature_is_refused(signature):
    with pytest.raises(SecurityError, match="no signature"):
        verify({**BODY, "signature": signature})


@pytest.mark.parametrize(
    "changed",
    [
        {"timestamp": str(NOW)},
        {"timestamp": True},
        {"timestamp": -1},
        {"nonce": "f" * 31},
        {"nonce": "F" * 32},
        {"nonce": "f" * 32 + "\n"},
        {"nonce": 5},
    ],
)
def test_malformed_time_and_nonce_are_refused(changed):
    with pytest.raises(SecurityError, match=r"no timestamp|no nonce"):
        verify(sign_vouch({**BODY, **changed}, GUARDIAN))


def test_a_timestamp_beyond_any_clock_is_refused():
    with pytest.raises(SecurityError, match="no timestamp"):
        verify({**sign_vouch(BODY, GUARDIAN), "timestamp": 10**400})


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.integers(-(2**53) + 1, 2**53 - 1))
def test_any_text_and_number_can_be_signed(text, number):
    body = {**BODY, "call_id": text, "bandwidth_bps": number, "nonce": hashlib.sha256(text.encode()).hexdigest()[:32]}
    verify(sign_vouch(body, GUARDIAN))


@pytest.mark.parametrize("value", [1.5, 2**53, "\ud800"])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(SecurityError, match="can't be signed"):
        sign_vouch({**BODY, "bandwidth_bps": value}, GUARDIAN)
