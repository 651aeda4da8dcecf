"""Keys: their text forms and their files, which nobody but the owner may read and nothing may overwrite."""

import os
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from security_samples import GUARDIAN, OTHER, TERMINAL_ID

from gatekeeperd.errors import ConfigurationError, SecurityError
from gatekeeperd.security.keys import (
    KeyPair,
    create_key_file,
    format_public_key,
    key_id,
    load_key_file,
    parse_public_key,
    verify_signature,
)

#: RFC 8410 section 10.1 and 10.3: the example key, public and private.
RFC_PUBLIC_PEM = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
)
RFC_PRIVATE_PEM = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n"
)
RFC_PUBLIC = bytes.fromhex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1")


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def test_signatures_of_rfc_8032():
    # Section 7.1, test 2.
    pair = KeyPair.from_seed(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert pair.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = pair.sign(b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    verify_signature(pair.public, b"\x72", signature)


@pytest.mark.parametrize(
    ("key", "octets", "signature", "complaint"),
    [
        (OTHER.public, b"a", GUARDIAN.sign(b"a"), "does not hold"),
        (GUARDIAN.public, b"b", GUARDIAN.sign(b"a"), "does not hold"),
        (GUARDIAN.public, b"a", GUARDIAN.sign(b"a")[:-1], "64 octets"),
        (GUARDIAN.public, b"a", b"", "64 octets"),
        (GUARDIAN.public, b"a", bytes(64), "does not hold"),
    ],
)
def test_signatures_that_do_not_hold(key, octets, signature, complaint):
    with pytest.raises(SecurityError, match=complaint):
        verify_signature(key, octets, signature)


def test_new_pairs_differ_and_show_no_secret():
    one, other = KeyPair.generate(TERMINAL_ID), KeyPair.generate()
    assert one.public != other.public
    assert (one.terminal_id, other.terminal_id) == (TERMINAL_ID, None)
    assert "sign" not in repr(one)
    assert one.to_pem().splitlines()[2] not in repr(one)


def test_a_key_id_is_the_start_of_the_sha_256():
    assert key_id(bytes(32)).hex() == "66687aadf862bd77"
    assert GUARDIAN.key_id == key_id(GUARDIAN.public)


# Text forms.


@pytest.mark.parametrize(
    "text",
    [
        "ed25519:" + RFC_PUBLIC.hex(),
        "ed25519:" + RFC_PUBLIC.hex().upper(),
        "  ed25519:" + RFC_PUBLIC.hex() + "\n",
        "ed25519:302a300506032b6570032100" + RFC_PUBLIC.hex(),
        RFC_PUBLIC_PEM,
        "\n" + RFC_PUBLIC_PEM.replace("\n", "\r\n"),
    ],
)
def test_each_text_form_is_read(text):
    assert parse_public_key(text) == RFC_PUBLIC


@given(st.binary(min_size=32, max_size=32))
def test_a_key_survives_its_text(seed):
    public = KeyPair.from_seed(seed).public
    assert parse_public_key(format_public_key(public)) == public


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no public key"),
        ("rubbish", "no public key"),
        (RFC_PUBLIC.hex(), "no public key"),
        ("ed25519:", "no public key"),
        ("ed25519:" + "zz" * 32, "no public key"),
        (RFC_PUBLIC_PEM.replace("MCow", "MCöw"), "no public key"),
        ("ed25519: " + RFC_PUBLIC.hex(), "no public key"),
        ("ed25519:" + RFC_PUBLIC.hex()[:-1], "no public key"),
        (RFC_PRIVATE_PEM, "no public key"),
        (RFC_PUBLIC_PEM.replace("MCow", "M*ow"), "no public key"),
        (RFC_PUBLIC_PEM.replace("MCow", "MCo"), "no public key"),
        (RFC_PUBLIC_PEM * 2, "no public key"),
        ("ed25519:" + RFC_PUBLIC.hex()[:-2], "neither 32 nor"),
        # The same structure, but X25519 (1.3.101.110).
        ("ed25519:302a300506032b656e032100" + RFC_PUBLIC.hex(), "neither 32 nor"),
        # Small order: the neutral element, and a point of order 2.
        ("ed25519:01" + "00" * 31, "no point"),
        ("ed25519:ec" + "ff" * 30 + "7f", "no point"),
        ("ed25519:" + "00" * 32, "no point"),
    ],
)
def test_what_is_no_public_key_is_refused(text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        parse_public_key(text)


@pytest.mark.parametrize(("start", "filling"), [("ed25519:", "0"), ("-----BEGIN PUBLIC KEY-----", " ")])
def test_a_text_of_any_length_is_refused_at_once(start, filling):
    with pytest.raises(ConfigurationError, match="no public key"):
        parse_public_key(start + filling * 5_000_000)


# Files.


def test_a_key_file_comes_back_as_it_was(tmp_path):
    path = tmp_path / "guardian.key"
    create_key_file(path, GUARDIAN)
    loaded = load_key_file(path)
    assert (loaded, loaded.terminal_id) == (GUARDIAN, TERMINAL_ID)
    verify_signature(GUARDIAN.public, b"octets", loaded.sign(b"octets"))


def test_a_key_of_nobody_has_no_terminal_id(tmp_path):
    create_key_file(tmp_path / "service.key", OTHER)
    assert load_key_file(tmp_path / "service.key").terminal_id is None


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_key_file_is_its_owners_alone_whatever_the_umask(tmp_path, umask):
    path = tmp_path / "guardian.key"
    before = os.umask(umask)
    try:
        create_key_file(path, GUARDIAN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "guardian.key"
    create_key_file(path, GUARDIAN)
    with pytest.raises(ConfigurationError, match="never overwritten") as caught:
        create_key_file(path, OTHER)
    assert caught.value.path == path
    assert load_key_file(path) == GUARDIAN
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path):
    path = tmp_path / "guardian.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="never overwritten"):
        create_key_file(path, GUARDIAN)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none" / "guardian.key"
    with pytest.raises(ConfigurationError, match=r"guardian\.key: the key file can't be written: No such file"):
        create_key_file(path, GUARDIAN)


@pytest.mark.parametrize("terminal_id", ["", "a\nb", "a b", "x" * 129, "-----BEGIN", "Zoë"])
def test_a_terminal_id_that_could_pass_for_something_else_is_refused(tmp_path, terminal_id):
    with pytest.raises(ConfigurationError, match="terminal_id"):
        create_key_file(tmp_path / "guardian.key", KeyPair.generate(terminal_id))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o700 | 0o001])
def test_a_key_file_that_others_may_see_is_refused(tmp_path, mode):
    path = write(tmp_path / "guardian.key", GUARDIAN.to_pem(), mode)
    with pytest.raises(ConfigurationError, match=rf"guardian\.key: .*mode {mode:04o}.*chmod 600"):
        load_key_file(path)


def test_a_key_file_may_be_read_only(tmp_path):
    assert load_key_file(write(tmp_path / "guardian.key", GUARDIAN.to_pem(), 0o400)) == GUARDIAN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        RFC_PUBLIC_PEM,
        RFC_PRIVATE_PEM.replace("BEGIN PRIVATE", "BEGIN RSA PRIVATE"),
        RFC_PRIVATE_PEM * 2,
        # 31 octets of seed; an X25519 key; base64 cut off.
        RFC_PRIVATE_PEM.replace("EdVhC", "EdVg="),
        RFC_PRIVATE_PEM.replace("K2Vw", "K2Vu"),
        RFC_PRIVATE_PEM.replace("EdVhC", "EdVh"),
        RFC_PRIVATE_PEM + " " * 5000,
        "\udcff",
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path, text):
    path = tmp_path / "guardian.key"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"guardian\.key: is no Ed25519 private key"):
        load_key_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"guardian\.key: the key file can't be read: No such file"):
        load_key_file(tmp_path / "guardian.key")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="no regular file"):
        load_key_file(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigurationError, match="no regular file"):
        load_key_file(pipe)


def test_the_key_of_rfc_8410_is_read(tmp_path):
    assert load_key_file(write(tmp_path / "rfc.key", RFC_PRIVATE_PEM)).public == RFC_PUBLIC


def test_openssl_reads_our_file_and_we_read_its(tmp_path):
    create_key_file(tmp_path / "ours.key", GUARDIAN)
    command = ["/usr/bin/openssl", "pkey", "-in", str(tmp_path / "ours.key"), "-pubout"]
    pem = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert parse_public_key(pem) == GUARDIAN.public
    theirs = tmp_path / "theirs.key"
    subprocess.run(["/usr/bin/openssl", "genpkey", "-algorithm", "ed25519", "-out", str(theirs)], check=True, capture_output=True)
    theirs.chmod(0o600)
    pem = subprocess.run(
        ["/usr/bin/openssl", "pkey", "-in", str(theirs), "-pubout"], check=True, capture_output=True, text=True
    ).stdout
    assert load_key_file(theirs).public == parse_public_key(pem)
