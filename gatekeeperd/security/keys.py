"""Ed25519 keys: their files, their text forms, and the two operations that need them.

What lives here: key pairs, the key file (the only I/O of ``security/``), and public keys as an operator writes them.
What never does: which key belongs to whom (that is the registry's business).

A key file is PKCS #8 in PEM (RFC 8410, RFC 7468), so openssl reads it too. A terminal identifier stands in the
explanatory text before it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from gatekeeperd.errors import ConfigurationError, SecurityError

KEY_LENGTH: Final = 32
KEY_ID_LENGTH: Final = 8
SIGNATURE_LENGTH: Final = 64

#: RFC 8410 section 10.1: everything of an Ed25519 SubjectPublicKeyInfo but the key.
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
#: RFC 8410 section 10.3: everything of an Ed25519 PrivateKeyInfo but the seed.
_PKCS8_PREFIX: Final = bytes.fromhex("302e020100300506032b657004220420")
_PREFIX: Final = "ed25519:"
_TERMINAL_ID: Final = "terminal_id: "
#: It must not be able to end its line or to look like the start of a key.
_TERMINAL_ID_FORM: Final = re.compile(r"(?!.*-----)[!-~]{1,128}")
_MODE: Final = 0o600
#: Characters of the longest text form, PEM, and some air.
_MAX_TEXT: Final = 512
#: A key file has under 400 octets; more is somebody else's file.
_MAX_FILE_OCTETS: Final = 4096


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair: ``public`` is the raw key (32 octets), ``key_id`` the first 8 octets of its SHA-256."""

    public: bytes
    key_id: bytes
    terminal_id: str | None
    _signing: SigningKey = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: bytes, terminal_id: str | None = None) -> KeyPair:
        """Derive the pair of a 32 octet seed (RFC 8032 section 5.1.5)."""
        signing = SigningKey(seed)
        public = bytes(signing.verify_key)
        return cls(public, key_id(public), terminal_id, signing)

    @classmethod
    def generate(cls, terminal_id: str | None = None) -> KeyPair:
        """Make a new pair."""
        return cls.from_seed(secrets.token_bytes(KEY_LENGTH), terminal_id)

    @property
    def signing_key(self) -> SigningKey:
        """The private half, for what signs with PyNaCl itself."""
        return self._signing

    def sign(self, octets: bytes) -> bytes:
        """Return the signature (64 octets) over ``octets``."""
        return bytes(self._signing.sign(octets).signature)

    def to_pem(self) -> str:
        """Return the text of the key file. It holds the private key."""
        header = "" if self.terminal_id is None else f"{_TERMINAL_ID}{self.terminal_id}\n"
        body = base64.b64encode(_PKCS8_PREFIX + bytes(self._signing)).decode()
        return f"{header}-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


def key_id(public: bytes) -> bytes:
    """Return the first 8 octets of the SHA-256 of a raw public key."""
    return hashlib.sha256(public).digest()[:KEY_ID_LENGTH]


def verify_signature(public: bytes, octets: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature (64 octets) by a raw public key. Raises SecurityError."""
    if len(signature) != SIGNATURE_LENGTH:
        raise SecurityError("a signature is not 64 octets long")
    try:
        crypto_sign_open(signature + octets, public)
    except BadSignatureError:
        raise SecurityError("the signature does not hold") from None


def format_public_key(public: bytes) -> str:
    """Return the text form of a raw public key: ``ed25519:`` and 64 hexadecimal digits."""
    return _PREFIX + public.hex()


def parse_public_key(text: str) -> bytes:
    """Read a public key: ``ed25519:`` with the raw key or its SubjectPublicKeyInfo in hexadecimal, or PEM of the latter.

    Returns the raw key (32 octets). Raises ConfigurationError (without a place) for anything else, and for keys that
    are no point of the group, since one of small order would accept signatures that nobody made.
    """
    text = text.strip() if len(text) <= _MAX_TEXT else ""
    if text.startswith("-----BEGIN"):
        octets = _pem(text, "PUBLIC KEY")
    elif text.startswith(_PREFIX) and re.fullmatch(r"[0-9A-Fa-f]+", text[len(_PREFIX) :]) and len(text) % 2 == 0:
        octets = bytes.fromhex(text[len(_PREFIX) :])
    else:
        octets = None
    if octets is None:
        raise ConfigurationError("is no public key: ed25519: and 64 hexadecimal digits, or PEM, is wanted")
    public = octets.removeprefix(_SPKI_PREFIX) if len(octets) == len(_SPKI_PREFIX) + KEY_LENGTH else octets
    if len(public) != KEY_LENGTH:
        raise ConfigurationError(f"is no Ed25519 public key: {len(octets)} octets, neither 32 nor a SubjectPublicKeyInfo of 44")
    if not crypto_core_ed25519_is_valid_point(public):
        raise ConfigurationError("is no usable Ed25519 public key: no point of its group")
    return public


def create_key_file(path: Path, pair: KeyPair) -> None:
    """Write ``pair`` to a new file that its owner alone can read; whole or not at all. Raises ConfigurationError."""
    if pair.terminal_id is not None and not _TERMINAL_ID_FORM.fullmatch(pair.terminal_id):
        raise ConfigurationError("is no terminal_id: up to 128 visible ASCII characters", field="terminal_id")
    # Written beside its place and then linked there: link() never replaces, and nobody sees half a key.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(descriptor, "w") as file:
                # Whatever the umask was.
                os.fchmod(descriptor, _MODE)
                file.write(pair.to_pem())
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise ConfigurationError("a key file is never overwritten", path=path) from None
    except OSError as error:
        raise ConfigurationError(f"the key file can't be written: {error.strerror}", path=path) from error


def load_key_file(path: Path) -> KeyPair:
    """Read a key file. Raises ConfigurationError where it is missing, no key, or readable by others than its owner."""
    try:
        # O_NONBLOCK: opening a pipe that somebody put there must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError("the key file is no regular file", path=path)
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigurationError(f"the key file has mode {mode:04o}; others may see it: chmod 600 it", path=path)
            octets = os.read(descriptor, _MAX_FILE_OCTETS + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"the key file can't be read: {error.strerror}", path=path) from error
    text = octets.decode("utf-8", "replace")
    private = _pem(text, "PRIVATE KEY") if len(octets) <= _MAX_FILE_OCTETS else None
    if private is None or len(private) != len(_PKCS8_PREFIX) + KEY_LENGTH or not private.startswith(_PKCS8_PREFIX):
        raise ConfigurationError("is no Ed25519 private key in PEM (PKCS #8)", path=path)
    header = text.partition("-----BEGIN")[0].splitlines()
    terminal_id = next((line.removeprefix(_TERMINAL_ID) for line in header if line.startswith(_TERMINAL_ID)), None)
    return KeyPair.from_seed(private[len(_PKCS8_PREFIX) :], terminal_id)


def _pem(text: str, label: str) -> bytes | None:
    """Return what the one PEM block of ``text`` with ``label`` holds, None where there is none or several."""
    begin = f"-----BEGIN {label}-----"
    body, ended, behind = text.partition(begin)[2].partition(f"-----END {label}-----")
    if ended and begin not in behind:
        with suppress(ValueError):
            return base64.b64decode("".join(body.split()), validate=True)
    return None
