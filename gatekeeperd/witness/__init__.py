"""The tamper-evident log: hash chain, signed checkpoints, offline verifier."""
