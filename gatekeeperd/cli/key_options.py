"""Public keys as the commands take them: after an option, or in a file.

What lives here: errors that name the option, and say what a file holds instead. What never does: the forms of a key
(``security.keys``).
"""

from __future__ import annotations

from pathlib import Path

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.security.keys import parse_public_key

#: A public key's file is far shorter; more is somebody else's file.
_MAX_FILE_OCTETS = 4096


def public_key_given(text: str, option: str) -> bytes:
    """Return the raw key (32 octets) that was typed after ``option``. Raises ConfigurationError."""
    try:
        return parse_public_key(text)
    except ConfigurationError as error:
        hint = "; a file is wanted in --service-key-file" if option == "--service-key" and Path(text).is_file() else ""
        raise ConfigurationError(error.message + hint, field=option) from error


def public_key_file(path: Path, option: str) -> bytes:
    """Return the raw key (32 octets) of the file that was named after ``option``. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_OCTETS).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", path=path, field=option) from error
    if "PRIVATE KEY-----" in text:
        raise ConfigurationError("holds a private key, which stays where it is: give its .pub", path=path, field=option)
    try:
        return parse_public_key(text)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, field=option) from error
