"""Passwords of room systems: H.235.0 MD5 hashes of real peers, and H.235.1 over the whole message."""

import hashlib
import hmac
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrate_asn1dir import H235
from security_samples import ARQ, DRQ, RRQ, accepted_bit_flips, with_fields

from gatekeeperd.errors import SecurityError
from gatekeeperd.security import h235
from gatekeeperd.security.oids import H2351_A, H2351_T, HMAC_SHA1_96, MD5
from gatekeeperd.wire.h225 import decode_ras, encode_ras


class Real(NamedTuple):
    """A PDU that an h323plus 1.28.0 endpoint sent, with the password that it was given and when it came (Unix seconds)."""

    message: str
    alias: str
    password: str
    wall: float
    pdu: bytes


REAL_20_3 = Real(
    "registrationRequest",
    "bob",
    "secretB",
    1795470741.747461,
    bytes.fromhex(
        "0ec0866c060008914a00078001000a4d000c06b801000a4d000cdf2b22c00900003d1048333233506c75732073696d706c6500001a312e32382e3020"
        "2848333233706c75732076312e32382e30290000000240020062006f0062018043350a00500065006500720047006b600900003d1048333233506c75"
        "732073696d706c6500001a312e32382e30202848333233706c75732076312e32382e302900002eab190202003b2a0104020062006f0062c06b04b594"
        "082a864886f70d0205008080a410d2ee7ff364097f5994fe71827797010001800100010002700001300100"
    ),
)
REAL_20_7 = Real(
    "registrationRequest",
    "alice",
    "secretA",
    1795470742.938986,
    bytes.fromhex(
        "0ec0a22f060008914a00078001000a4d000b06b801000a4d000b9ca722c00900003d1048333233506c75732073696d706c6500001a312e32382e3020"
        "2848333233706c75732076312e32382e30290000000240040061006c006900630065018043340a00500065006500720047006b600900003d10483332"
        "33506c75732073696d706c6500001a312e32382e30202848333233706c75732076312e32382e302900002eab190202003b2e0104040061006c006900"
        "630065c06b04b595082a864886f70d02050080800feb8ba73ec924b8cab19cfdaa9cbe25010001800100010002700001300100"
    ),
)
REAL_20_9 = Real(
    "admissionRequest",
    "alice",
    "secretA",
    1795470744.125854,
    bytes.fromhex(
        "2680a2300340003100380035003600350036003500390036005f0065006e006400700140020062006f00620240040061006c00690063006501804334"
        "800186a0114784a0c2d5f5e5f111858546a739deadee096520500180110084a0c2d5f5e5f111858446a739deadee0d0a00500065006500720047006b"
        "2e0104040061006c006900630065c06b04b597082a864886f70d0205008080976285fd8416969db5f63a04c26ecd0a01800510010000090100"
    ),
)
REAL_20_18 = Real(
    "admissionRequest",
    "bob",
    "secretB",
    1795470744.163049,
    bytes.fromhex(
        "26d0866d03800031003000380031003200350034003300300036005f0065006e006400700240020062006f006201804335000a4d000c06b801400400"
        "61006c006900630065000a4d000b8498800186a0114784a0c2d5f5e5f111858546a739deadee496520500180110084a0c2d5f5e5f111858446a739de"
        "adee0d0a00500065006500720047006b2a0104020062006f0062c06b04b597082a864886f70d02050080807faa7b31eafac84ea326a7e902dcf52c01"
        "800510010000090100"
    ),
)
REAL_20_198 = Real(
    "disengageRequest",
    "alice",
    "secretA",
    1795470745.734288,
    bytes.fromhex(
        "3ea2311a003100380035003600350036003500390036005f0065006e0064007084a0c2d5f5e5f111858546a739deadee114722b518110084a0c2d5f5"
        "e5f111858446a739deadee0d0a00500065006500720047006b2e0104040061006c006900630065c06b04b598082a864886f70d02050080801f29711a"
        "eccd2818127ee800d75b778601000c3000c06b04b597c06b04b59803408090"
    ),
)
REAL_20_202 = Real(
    "unregistrationRequest",
    "alice",
    "secretA",
    1795470746.692058,
    bytes.fromhex(
        "1b40a23201000a4d000b06b80240040061006c006900630065018043341a003100380035003600350036003500390036005f0065006e0064007006a0"
        "0d0a00500065006500720047006b2e0104040061006c006900630065c06b04b599082a864886f70d02050080805afe5d3f7ed24cd3a3ca1a2512dc8f"
        "f2"
    ),
)
REAL_25_3 = Real(
    "registrationRequest",
    "alice",
    "WRONG",
    1795471699.835135,
    bytes.fromhex(
        "0ec0f0bc060008914a00078001000a4d000b06b801000a4d000b86e122c00900003d1048333233506c75732073696d706c6500001a312e32382e3020"
        "2848333233706c75732076312e32382e30290000000240040061006c006900630065018043340a00500065006500720047006b600900003d10483332"
        "33506c75732073696d706c6500001a312e32382e30202848333233706c75732076312e32382e302900002eab190202003b2e0104040061006c006900"
        "630065c06b04b952082a864886f70d020500808053944ee568030da425395678972646bc010001800100010002700001300100"
    ),
)

REAL = [REAL_20_3, REAL_20_7, REAL_20_9, REAL_20_18, REAL_20_198, REAL_20_202, REAL_25_3]


@pytest.mark.parametrize("real", REAL, ids=lambda real: f"{real.alias}-{real.message}")
def test_password_hashes_of_real_peers_hold(real):
    message = decode_ras(real.pdu)
    assert message[0] == real.message
    proof = h235.verify_password(message, real.password, wall=real.wall)
    assert proof.alias == ("h323-ID", real.alias)
    assert abs(proof.time_stamp - real.wall) < 3


@pytest.mark.parametrize("password", ["secretA", "secretB", "", "WRONG\0", "wrong"])
def test_the_wrong_password_of_a_real_peer_is_refused(password):
    with pytest.raises(SecurityError, match="hash does not hold"):
        h235.verify_password(decode_ras(REAL_25_3.pdu), password, wall=REAL_25_3.wall)


@pytest.mark.parametrize("real", REAL, ids=lambda real: f"{real.alias}-{real.message}")
def test_we_write_the_token_that_real_peers_write(real):
    (token,) = decode_ras(real.pdu)[1]["cryptoTokens"]
    assert h235.password_token(("h323-ID", real.alias), real.password, token[1]["timeStamp"]) == token


def test_real_hashes_are_out_of_time_today():
    for wall in (REAL_20_7.wall - 32, REAL_20_7.wall + 32, 0):
        with pytest.raises(SecurityError, match="30 s"):
            h235.verify_password(decode_ras(REAL_20_7.pdu), REAL_20_7.password, wall=wall)


NOW = 1_800_000_000
ALIAS = ("h323-ID", "room-7")
PASSWORD = "correct horse"
NAMES = st.text(st.characters(codec="utf-16-be", max_codepoint=0xFFFF, exclude_characters="\0"), min_size=1, max_size=60)


def with_password(message=DRQ, alias=ALIAS, password=PASSWORD, time_stamp=NOW):
    return with_fields(message, cryptoTokens=[h235.password_token(alias, password, time_stamp)])


@given(NAMES, NAMES, st.integers(1, 2**32 - 1))
def test_the_hash_is_over_what_pycrate_encodes(alias, password, time_stamp):
    token = H235.H235_SECURITY_MESSAGES.ClearToken
    token.set_val({"tokenOID": (0, 0), "timeStamp": time_stamp, "password": password + "\0", "generalID": alias + "\0"})
    expected = hashlib.md5(token.to_aper(), usedforsecurity=False).digest()
    _, value = h235.password_token(("h323-ID", alias), password, time_stamp)
    assert value["token"]["hash"] == (int.from_bytes(expected, "big"), 128)


@pytest.mark.parametrize("skew", [-30, 0, 30])
def test_a_password_hash_holds_within_30_s(skew):
    message = decode_ras(encode_ras(with_password()))
    assert h235.verify_password(message, PASSWORD, wall=NOW + skew) == h235.PasswordProof(ALIAS, NOW)


def changed(**fields):
    name, value = h235.password_token(ALIAS, PASSWORD, NOW)
    return with_fields(DRQ, cryptoTokens=[(name, {**value, **fields})])


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (DRQ, "no password hash"),
        (changed(timeStamp=NOW + 1), "does not hold"),
        (changed(alias=("h323-ID", "room-8")), "does not hold"),
        (changed(alias=("h323-ID", "x" * 128)), "none can be over"),
        (changed(alias=("transportID", ("ipAddress", {"ip": bytes(4), "port": 1}))), "not MD5 over a name"),
        (changed(token={"algorithmOID": HMAC_SHA1_96, "paramS": {}, "hash": (0, 128)}), "not MD5"),
        (changed(token={"algorithmOID": MD5, "paramS": {}, "hash": (0, 120)}), "not MD5"),
        (with_fields(DRQ, cryptoTokens=with_password()[1]["cryptoTokens"] * 2), "several"),
    ],
)
def test_password_hashes_that_do_not_hold(message, complaint):
    with pytest.raises(SecurityError, match=complaint):
        h235.verify_password(decode_ras(encode_ras(message)), PASSWORD, wall=NOW)


def test_a_message_that_is_no_sequence_carries_no_password():
    assert h235.read_password(("admissionConfirmSequence", [])) is None
    assert h235.read_hashed(("_ext_9", b"")) is None


def test_the_same_name_in_another_form_of_alias_is_still_the_name():
    message = with_password(alias=("dialledDigits", "1007"))
    assert h235.verify_password(message, PASSWORD, wall=NOW).alias == ("dialledDigits", "1007")


# H.235.1, procedure I.

IDS = {"senders_id": "room-7", "general_id": "council"}


def hashed(message=ARQ, random=5, time_stamp=NOW, **ids):
    return h235.sign_hashed(message, password=PASSWORD, random=random, time_stamp=time_stamp, **{**IDS, **ids})


def verify(pdu, message=None, password=PASSWORD, wall=NOW, **ids):
    message = decode_ras(pdu) if message is None else message
    return h235.verify_hashed(pdu, message, password=password, wall=wall, **{**IDS, **ids})


@pytest.mark.parametrize("message", [RRQ, ARQ, DRQ], ids=lambda message: message[0])
def test_a_hashed_message_holds(message):
    token = verify(hashed(message))
    assert (token.senders_id, token.general_id, token.random, token.time_stamp) == ("room-7", "council", 5, NOW)


def test_the_hash_is_hmac_sha1_96_over_the_octets_with_the_hash_blank():
    pdu = hashed()
    stated = h235.read_hashed(decode_ras(pdu)).hash_octets
    key = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()
    assert hmac.new(key, pdu.replace(stated, bytes(12)), hashlib.sha1).digest()[:12] == stated


def test_the_token_has_the_form_of_h2351():
    ((name, (kind, token)),) = decode_ras(hashed())[1]["cryptoTokens"]
    assert (name, kind, token["tokenOID"], token["hashedVals"]["tokenOID"]) == (
        "nestedcryptoToken",
        "cryptoHashedToken",
        H2351_A,
        H2351_T,
    )
    assert token["token"]["algorithmOID"] == HMAC_SHA1_96 == (0, 0, 8, 235, 0, 2, 6)


def test_no_bit_can_change():
    assert accepted_bit_flips(hashed(DRQ), verify) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"password": "another"}, "does not hold"),
        ({"senders_id": "room-8"}, "another sender"),
        ({"general_id": "another"}, "another recipient"),
        ({"wall": NOW + 31}, "30 s"),
        ({"wall": NOW - 31}, "30 s"),
    ],
)
def test_a_hashed_message_is_for_one_sender_recipient_and_time(arguments, complaint):
    with pytest.raises(SecurityError, match=complaint):
        verify(hashed(), **arguments)


def test_a_sender_that_does_not_know_us_yet_names_nobody():
    pdu = hashed(general_id=None)
    assert verify(pdu, general_id=None).general_id is None
    with pytest.raises(SecurityError, match="another recipient"):
        verify(pdu)


def test_a_nul_behind_the_names_is_not_part_of_them():
    pdu = hashed(senders_id="room-7\0", general_id="council\0")
    assert (verify(pdu).senders_id, verify(pdu).general_id) == ("room-7", "council")


def test_a_token_moved_to_another_message_fails():
    crypto = decode_ras(hashed(ARQ))[1]["cryptoTokens"]
    with pytest.raises(SecurityError, match="does not hold"):
        verify(encode_ras(with_fields(DRQ, cryptoTokens=crypto)))


def test_a_message_without_a_hashed_token_has_none():
    assert h235.read_hashed(with_password()) is None
    with pytest.raises(SecurityError, match="no hashed token"):
        verify(encode_ras(DRQ))


def forged(*, oid=H2351_A, algorithm=HMAC_SHA1_96, bits=96, without=(), inner=H2351_T, times=1):
    values = {"tokenOID": inner, "timeStamp": NOW, "random": 5, "sendersID": "room-7", "generalID": "council"}
    values = {name: value for name, value in values.items() if name not in without}
    token = {"tokenOID": oid, "hashedVals": values, "token": {"algorithmOID": algorithm, "paramS": {}, "hash": (0, bits)}}
    return with_fields(DRQ, cryptoTokens=[("nestedcryptoToken", ("cryptoHashedToken", token))] * times)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (forged(times=2), "several"),
        # "B" authenticates a few fields only, "0.0.8.235.0.1.1" is the first version's.
        (forged(oid=(0, 0, 8, 235, 0, 2, 2)), "procedure I"),
        (forged(oid=(0, 0, 8, 235, 0, 1, 1)), "procedure I"),
        (forged(inner=H2351_A), "procedure I"),
        (forged(algorithm=MD5), "procedure I"),
        (forged(bits=88), "lacks"),
        (forged(without=["random"]), "lacks"),
        (forged(without=["timeStamp"]), "lacks"),
        (forged(without=["sendersID"]), "lacks"),
    ],
)
def test_hashed_tokens_of_another_form_are_refused(message, complaint):
    with pytest.raises(SecurityError, match=complaint):
        verify(encode_ras(message))


def test_a_hash_that_stands_twice_in_the_message_is_refused():
    message = decode_ras(hashed(DRQ))
    stated = h235.read_hashed(message).hash_octets
    twice = with_fields(message, nonStandardData={"nonStandardIdentifier": ("object", MD5), "data": stated})
    with pytest.raises(SecurityError, match="more than once"):
        verify(encode_ras(twice))
