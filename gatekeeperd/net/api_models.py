"""The JSON bodies of the HTTPS API, and with them the OpenAPI document.

What lives here: shapes, bounds and examples. What never does: meaning; a body that fits may still be refused by a gate.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gatekeeperd.core.ras.vouching import endpoint_host
from gatekeeperd.policy.reasons import RejectReason

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Identifier = Annotated[str, Field(min_length=1, max_length=128)]


def _endpoint_address(text: str) -> str:
    """Refuse what names no host; the text itself stays as it was signed."""
    endpoint_host(text)
    return text


class Reason(StrEnum):
    """Why a request did not succeed: the gates' reasons, and those of the API itself."""

    INVALID_SIGNATURE = RejectReason.INVALID_SIGNATURE.value
    NOT_REGISTERED = RejectReason.NOT_REGISTERED.value
    PII_POLICY_VIOLATION = RejectReason.PII_POLICY_VIOLATION.value
    BANDWIDTH_EXCEEDED = RejectReason.BANDWIDTH_EXCEEDED.value
    CAPACITY_EXCEEDED = RejectReason.CAPACITY_EXCEEDED.value
    GATEKEEPER_ERROR = RejectReason.GATEKEEPER_ERROR.value
    MALFORMED = "MALFORMED"
    TOO_LARGE = "TOO_LARGE"
    NOT_AUTHENTICATED = "NOT_AUTHENTICATED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    RATE_LIMITED = "RATE_LIMITED"
    NOT_READY = "NOT_READY"


class Failure(BaseModel):
    """The one body of every answer that is not a success."""

    model_config = _STRICT

    reason: Reason
    detail: Annotated[str, Field(description="one sentence for a person")]
    field: Annotated[str | None, Field(description="the part of the request that is wrong, where there is one")] = None
    trace_id: Annotated[str, Field(description="32 hexadecimal digits; the witness log and the daemon's log have it too")]


class AdmissionBody(BaseModel):
    """A guardian vouches for a terminal that can't sign.

    ``signature`` is Ed25519 over the RFC 8785 canonical JSON of the other members, by the key that the registry has for
    ``terminal_id``. It buys the alias and address one registration and a call, for a short time.
    """

    model_config = _STRICT

    terminal_id: Annotated[str, Field(min_length=1, max_length=256, examples=["if://guardian/technical"])]
    call_id: Identifier
    call_type: Literal["ROUTINE", "ESCALATE", "EMERGENCY"]
    bandwidth_bps: Annotated[
        int, Field(ge=0, le=429_496_729_500, description="bit/s, both directions summed; H.225 BandWidth x 100")
    ]
    has_pii: bool
    timestamp: Annotated[int, Field(ge=0, le=2**40, description="POSIX seconds; 30 s off at most")]
    nonce: Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="taken once")]
    endpoint_alias: Annotated[str, Field(min_length=1, max_length=256)]
    endpoint_address: Annotated[
        str, Field(min_length=2, max_length=64, examples=["192.0.2.7", "192.0.2.7:1720"]), AfterValidator(_endpoint_address)
    ]
    public_key: Annotated[str | None, Field(max_length=256, description="where given, it must equal the registry's")] = None
    signature: Annotated[str, Field(pattern="^ed25519:[0-9a-f]{128}$")]


class GateOutcome(BaseModel):
    """What one gate found."""

    model_config = _STRICT

    gate: str
    passed: bool
    rule: str
    detail: str


class Admitted(BaseModel):
    """The vouching was accepted and is durable on record."""

    model_config = _STRICT

    admitted: Literal[True] = True
    session_id: str
    bandwidth_bps: Annotated[int, Field(description="what the call counts for, bit/s")]
    expires_in_s: Annotated[int, Field(description="seconds until the endpoint must have registered")]
    gates: list[GateOutcome]
    trace_id: str


class SessionBody(BaseModel):
    """One call, or one vouching not used yet."""

    model_config = _STRICT

    session_id: str
    terminal_id: Annotated[str | None, Field(description="the guardian; null for a terminal that was let in unsigned")]
    kind: Literal["call", "vouched"]
    call_id: str
    call_type: str
    bandwidth_bps: int
    endpoint_alias: str
    started_s: Annotated[int, Field(description="seconds since admission, or since the gatekeeper's last start")]
    state: str
    trace_id: str


class Sessions(BaseModel):
    """What the asker may see: an operator's token all, a guardian its own."""

    model_config = _STRICT

    sessions: list[SessionBody]
    total: Annotated[int, Field(description="how many there are; `limit` may have cut the list")]


class Revoked(BaseModel):
    """The session was ended; its endpoint has been told."""

    model_config = _STRICT

    session_id: str
    revoked: Literal[True] = True


class Health(BaseModel):
    """The process answers."""

    model_config = _STRICT

    status: Literal["ok"] = "ok"
    version: str
