"""Sans-I/O state machines: octets and ``now`` in, actions out. No socket, no clock, no file."""
