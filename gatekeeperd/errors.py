"""The one error taxonomy: every error that this package raises on purpose.

What lives here: the classes, each with the facts that its reader needs to act on it.
What never does: logging, exit codes, protocol answers. The edges (``net/``, ``cli/``) turn errors into those.

As in h11, what a peer did wrong and what we did wrong are two classes: :class:`DecodeError` blames the octets
that came in, :class:`EncodeError` blames the value that we tried to send.
"""

from __future__ import annotations

from pathlib import Path


class GuardianError(Exception):
    """Root of the taxonomy. Catch it at an edge, never in the middle."""


class WireError(GuardianError, ValueError):
    """Octets and values do not fit together."""


class DecodeError(WireError):
    """A peer's octets are not what the Recommendation allows, or exceed our bounds. Never escapes ``net/``."""


class EncodeError(WireError):
    """A value of ours can't be written as the Recommendation wants it: a bug on our side."""


class SecurityError(GuardianError):
    """A signature, MAC, token or password does not hold. The message is for our log, never for the peer."""


class PolicyError(GuardianError):
    """The gates and the tables disagree: a bug on our side, found before anything was committed."""


class StoreError(GuardianError):
    """A commit did not become durable, or the stored state can't be read. Nothing of it was acknowledged."""


class WitnessError(GuardianError):
    """The witness log can't be written or does not verify."""


class OtherKeyError(WitnessError):
    """A statement of the witness log names another key (``key_id``, hexadecimal digits) than the one it is verified with."""

    def __init__(self, message: str, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(message)


class CanonicalError(GuardianError, ValueError):
    """A value has no canonical JSON form here: a float, an integer beyond 2**53 - 1, a lone surrogate, nesting too deep."""


class ConfigurationError(GuardianError):
    """A file that an operator wrote is wrong. Names the file, the line (1-based) and the field."""

    def __init__(self, message: str, *, path: Path | None = None, line: int | None = None, field: str | None = None) -> None:
        self.message = message
        self.path = path
        self.line = line
        self.field = field
        where = ":".join(str(part) for part in (path, line) if part is not None)
        what = f"{field}: {message}" if field else message
        super().__init__(f"{where}: {what}" if where else what)


class TerminalError(GuardianError):
    """A guardian terminal could not do what it was asked: refused, timed out, or the gatekeeper is not who it claims."""


class CaptureError(GuardianError):
    """A capture file can't be read or is damaged. Names the file and the frame (1-based, as Wireshark counts)."""

    def __init__(self, message: str, *, path: Path, frame: int | None = None) -> None:
        self.message = message
        self.path = path
        self.frame = frame
        super().__init__(f"{path}: frame {frame}: {message}" if frame else f"{path}: {message}")


class ApiError(GuardianError):
    """The gatekeeper's HTTPS API can't be reached, is not who it claims, or answers what it should not."""
