"""Signatures, session MACs, passwords and keys."""
