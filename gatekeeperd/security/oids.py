"""Object identifiers of the security tokens, ours and those of H.235.

What lives here: constants. What never does: what the tokens hold (the module of each token says that).
"""

from __future__ import annotations

from typing import Final, TypeAlias

Oid: TypeAlias = tuple[int, ...]

#: Our arc, below the private enterprise number that RFC 5612 sets aside for documentation.
GUARDIAN_COUNCIL: Final[Oid] = (1, 3, 6, 1, 4, 1, 32473, 77)

CREDENTIAL: Final[Oid] = (*GUARDIAN_COUNCIL, 1)
SESSION_MAC: Final[Oid] = (*GUARDIAN_COUNCIL, 2)
CHALLENGE: Final[Oid] = (*GUARDIAN_COUNCIL, 3)
SERVICE: Final[Oid] = (*GUARDIAN_COUNCIL, 4)
CALL_TOKEN: Final[Oid] = (*GUARDIAN_COUNCIL, 5)
#: Not a token: names the ``nonStandardData`` of rejects.
REJECT_REASON: Final[Oid] = (*GUARDIAN_COUNCIL, 6)

#: H.235.1 (09/2005) clause 11, "A": authentication and integrity of the whole message (procedure I).
H2351_A: Final[Oid] = (0, 0, 8, 235, 0, 2, 1)
#: H.235.1, "T": the ClearToken inside a hashed token.
H2351_T: Final[Oid] = (0, 0, 8, 235, 0, 2, 5)
#: H.235.1, "U": HMAC-SHA1-96.
HMAC_SHA1_96: Final[Oid] = (0, 0, 8, 235, 0, 2, 6)
#: RFC 1321 as H.235.0 password hashes name it.
MD5: Final[Oid] = (1, 2, 840, 113549, 2, 5)
