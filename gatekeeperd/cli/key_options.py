"""Keys as the commands take them: a public key after an option, or a file of either kind.

What lives here: errors that name the option, and say what a file holds instead. What never does: the forms of a key
(``security.keys``).
"""

from __future__ import annotations

from pathlib import Path

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.security.keys import KeyPair, load_key_file, parse_public_key

_PRIVATE = "PRIVATE KEY-----"
#: A key's file is far shorter; more is somebody else's file.
_MAX_FILE_OCTETS = 4096


def public_key_given(text: str, option: str) -> bytes:
    """Return the raw key (32 octets) that was typed after ``option``. Raises ConfigurationError."""
    try:
        return parse_public_key(text)
    except ConfigurationError as error:
        hint = "; a file goes with --service-key-file" if option == "--service-key" else ""
        raise ConfigurationError(error.message + hint, field=option) from error


def public_key_file(path: Path, option: str) -> bytes:
    """Return the raw key (32 octets) of the file that was named after ``option``. Raises ConfigurationError."""
    text = _read(path, option)
    if _PRIVATE in text:
        raise ConfigurationError("holds a private key, which stays where it is: give its .pub", path=path, field=option)
    try:
        return parse_public_key(text)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, field=option) from error


def private_key_file(path: Path, option: str = "--key") -> KeyPair:
    """Return the key pair of the file that was named after ``option``. Raises ConfigurationError."""
    # Before its mode is complained of: nobody should be told to hide a public file.
    if path.is_file() and _PRIVATE not in (text := _read(path, option)):
        what = "holds a public key" if text.startswith(("ed25519:", "-----BEGIN PUBLIC")) else "is no key file"
        raise ConfigurationError(f"{what}: the private one is wanted, as `councilctl keys new` makes it", path=path, field=option)
    try:
        return load_key_file(path)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, field=option) from error


def _read(path: Path, option: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_OCTETS).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", path=path, field=option) from error
