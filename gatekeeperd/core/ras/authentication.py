"""Who sent this? The proof that each kind of endpoint gives, checked before anything that it asks for.

What lives here: session MACs, H.235 passwords and the address pin of those who can neither. What never does: gates.

Every check ends in a :class:`Caller` or a :class:`Refused`; there is no third way, so a handler can't forget one.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.links import Standing, verify
from gatekeeperd.core.ras.messages import text_aliases
from gatekeeperd.core.ras.model import Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.errors import GuardianError, SecurityError
from gatekeeperd.policy.gates import Method
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.security import h235


class Refused(GuardianError):
    """A request that does not prove what it must. ``known``: its endpointIdentifier is one of ours."""

    def __init__(self, reason: RejectReason, detail: str, *, known: bool = True) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.known = known


@dataclass(frozen=True, slots=True)
class Caller:
    """A registered endpoint that proved itself. ``stale``: under a challenge of before our restart, so perhaps a replay."""

    registration: Registration
    counter: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True)
class PasswordProof:
    """What a password token proved, and when it was made (POSIX seconds, the sender's clock)."""

    method: Method
    time_stamp: int


def recognise(context: Context, request: Request, transaction: Transaction) -> Caller:
    """Find the registration that a message claims to come from and check its proof.

    Raises:
        Refused: unknown endpoint, another source than it registered from, or a proof that does not hold.

    """
    identifier = request.value.get("endpointIdentifier")
    registration = context.state.registration(identifier) if identifier else None
    if registration is None:
        raise Refused(RejectReason.NOT_REGISTERED, "this endpointIdentifier is not registered", known=False)
    if request.source != registration.source:
        raise Refused(RejectReason.INVALID_SIGNATURE, "another source than the registration's", known=False)
    try:
        match registration.method:
            case Method.SIGNATURE:
                return _session(context, request, registration, transaction)
            case Method.H235_1 | Method.H235_MD5:
                proof = check_password(context, request, registration.credential_alias or "")
                if proof.method is not registration.method:
                    raise SecurityError("another kind of token than it registered with")
            case Method.UNSIGNED if not context.settings.allow_unsigned:
                raise SecurityError("unsigned endpoints are not allowed any more")
    except SecurityError as error:
        raise Refused(RejectReason.INVALID_SIGNATURE, str(error)) from error
    return Caller(registration)


def _session(context: Context, request: Request, registration: Registration, transaction: Transaction) -> Caller:
    link = context.links[registration.endpoint_identifier]
    standing, session, counter = verify(request.pdu, request.message, registration, link)
    registration = context.settle_standing(registration, standing, session, transaction)
    if standing is Standing.STALE:
        return Caller(registration, counter, stale=True)
    if not link.window.accept(counter):
        raise SecurityError("this message was seen before")
    return Caller(registration, counter)


def privileged(context: Context, request: Request) -> bool:
    """Say whether a message may pass although its source's bucket is empty: new, with a good MAC, and room in its own.

    Changes nothing but that bucket: the message is checked in full again where it is handled.
    """
    registration = context.state.registration(request.value.get("endpointIdentifier") or "")
    if registration is None or request.source != registration.source:
        return False
    link = context.links.get(registration.endpoint_identifier)
    try:
        if link is not None:
            standing, _, counter = verify(request.pdu, request.message, registration, link)
            return (standing is not Standing.LIVE or link.window.is_new(counter)) and link.bucket.take(request.now)
        if registration.method is Method.H235_1:
            alias = registration.credential_alias or ""
            token = _hashed(context, request, alias)
            new = context.password_tokens.is_new(alias.casefold(), (token.time_stamp, token.random))
            return new and context.bucket(registration).take(request.now)
    except SecurityError:
        return False
    return False


def check_password(context: Context, request: Request, alias: str) -> PasswordProof:
    """Check the H.235.1 or H.235.0 (MD5) token of a room system against the password of ``alias``.

    Raises:
        SecurityError: no token, no such password, wrong, out of time, or seen before.

    """
    wall = context.wall(request.now)
    nonce: object
    if h235.read_hashed(request.message) is not None:
        token = _hashed(context, request, alias)
        proof, nonce, owner = PasswordProof(Method.H235_1, token.time_stamp), token.random, alias.casefold()
    else:
        md5 = h235.verify_password(request.message, _password(context, alias), wall=wall)
        if md5.alias[1] != alias:
            raise SecurityError("the token names another alias")
        # The MD5 token proves the sender, not the message: one per request and second is all that it can promise. Who
        # repeats one with other numbers uses up the room of its own address.
        proof, nonce = PasswordProof(Method.H235_MD5, md5.time_stamp), (request.name, request.sequence)
        owner = f"md5:{alias.casefold()}:{request.source[0]}"
    if proof.time_stamp < context.started_wall:
        raise SecurityError("this token is of before our start")
    if not context.password_tokens.accept(owner, (proof.time_stamp, nonce), wall):
        raise SecurityError("this token was seen before")
    return proof


def _hashed(context: Context, request: Request, alias: str) -> h235.HashedToken:
    """Check the H.235.1 token of a message, but not whether it was seen before."""
    hashed = h235.read_hashed(request.message)
    if hashed is None:
        raise SecurityError("no H.235.1 token")
    # H.235.1 section 12.1: once registered an endpoint may name itself by its endpointIdentifier.
    identifier = request.value.get("endpointIdentifier")
    return h235.verify_hashed(
        request.pdu,
        request.message,
        password=_password(context, alias),
        senders_id=identifier if identifier and hashed.senders_id == identifier else alias,
        general_id=context.settings.gatekeeper_identifier,
        wall=context.wall(request.now),
    )


def _password(context: Context, alias: str) -> str:
    password = context.password(alias)
    if password is None:
        raise SecurityError("no password is set for this alias")
    return password


def password_alias(context: Context, request: Request) -> str | None:
    """Return the alias of an RRQ that has a password here, ``None`` if none has."""
    for _, text in text_aliases(request.value.get("terminalAlias", ())):
        if context.password(text) is not None:
            return text
    return None
