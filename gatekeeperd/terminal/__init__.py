"""A guardian's own H.323 terminal: the other side of the wire, for guardians without a room system and for tests."""
