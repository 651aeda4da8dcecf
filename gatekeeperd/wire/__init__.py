"""Codecs: octets to plain Python values and back. No I/O, no state between messages."""
