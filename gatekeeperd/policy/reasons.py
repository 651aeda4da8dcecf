"""The six reasons for which an admission is refused, and what each is called on the wire and over HTTP.

The names are an interface: they stand in ARJ/RRJ ``nonStandardData``, in HTTP bodies, in metrics and in the
witness log. Sources: H.225.0 v7 section 7.11.3 (AdmissionRejectReason) and section 7.9.3 (RegistrationRejectReason).
"""

from __future__ import annotations

from enum import Enum


class RejectReason(Enum):
    """Why an admission was refused. The value is the public name."""

    INVALID_SIGNATURE = "INVALID_SIGNATURE"
    NOT_REGISTERED = "NOT_REGISTERED"
    PII_POLICY_VIOLATION = "PII_POLICY_VIOLATION"
    BANDWIDTH_EXCEEDED = "BANDWIDTH_EXCEEDED"
    CAPACITY_EXCEEDED = "CAPACITY_EXCEEDED"
    GATEKEEPER_ERROR = "GATEKEEPER_ERROR"

    @property
    def http_status(self) -> int:
        """HTTP status code of an admission request refused for this reason."""
        return _HTTP_STATUS[self]

    @property
    def admission_reject_reason(self) -> str:
        """Choice of H.225.0 ``AdmissionRejectReason`` in an ARJ."""
        return _ADMISSION_REJECT[self]

    @property
    def registration_reject_reason(self) -> str:
        """Choice of H.225.0 ``RegistrationRejectReason`` in an RRJ."""
        return _REGISTRATION_REJECT[self]


_HTTP_STATUS = {
    RejectReason.INVALID_SIGNATURE: 401,
    RejectReason.NOT_REGISTERED: 403,
    RejectReason.PII_POLICY_VIOLATION: 422,
    RejectReason.BANDWIDTH_EXCEEDED: 422,
    RejectReason.CAPACITY_EXCEEDED: 503,
    RejectReason.GATEKEEPER_ERROR: 500,
}

_ADMISSION_REJECT = {
    RejectReason.INVALID_SIGNATURE: "securityDenial",
    RejectReason.NOT_REGISTERED: "callerNotRegistered",
    RejectReason.PII_POLICY_VIOLATION: "invalidPermission",
    # The Recommendation's own comment on requestDenied: "no bandwidth available".
    RejectReason.BANDWIDTH_EXCEEDED: "requestDenied",
    RejectReason.CAPACITY_EXCEEDED: "exceedsCallCapacity",
    RejectReason.GATEKEEPER_ERROR: "resourceUnavailable",
}

_REGISTRATION_REJECT = {
    RejectReason.INVALID_SIGNATURE: "securityDenial",
    RejectReason.NOT_REGISTERED: "securityDenial",
    RejectReason.PII_POLICY_VIOLATION: "invalidAlias",
    RejectReason.BANDWIDTH_EXCEEDED: "resourceUnavailable",
    RejectReason.CAPACITY_EXCEEDED: "resourceUnavailable",
    RejectReason.GATEKEEPER_ERROR: "undefinedReason",
}
