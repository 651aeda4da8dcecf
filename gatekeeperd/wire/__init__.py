"""Codecs: octets to plain Python values and back. No I/O, no state between messages."""

from gatekeeperd.wire.per_engine import COMPILED

__all__ = ["COMPILED"]
