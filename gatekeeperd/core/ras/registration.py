"""Registration: RRQ, RCF, RRJ, full and lightweight (H.225.0 section 7.9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gatekeeperd.core.actions import Action, TransportAddress
from gatekeeperd.core.ras import closing
from gatekeeperd.core.ras.authentication import Refused, check_password, password_alias, recognise
from gatekeeperd.core.ras.context import Context, Request
from gatekeeperd.core.ras.discovery import alternates
from gatekeeperd.core.ras.enforcement import fingerprint
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, Message, first_address, text_aliases, transport_address
from gatekeeperd.core.ras.model import Alias, Grant, Registration
from gatekeeperd.core.ras.state import Transaction, normal_alias
from gatekeeperd.core.settings import CallModel
from gatekeeperd.errors import SecurityError
from gatekeeperd.policy.gates import Method
from gatekeeperd.policy.reasons import RejectReason
from gatekeeperd.policy.registry import GuardianStatus
from gatekeeperd.security.credential import Credential, read_credential, verify_credential
from gatekeeperd.security.service import open_session
from gatekeeperd.security.tokens import challenge_token, read_challenge

#: A terminal has a handful of names; a list of hundreds is an attempt to fill the tables.
MAX_ALIASES = 32

#: The RCF repeats them, two octets a character, and has to fit a datagram together with all else that it says.
MAX_ALIAS_CHARACTERS = 1024

#: Names that only the registry and the appliance give, also to guardians that are not there yet.
RESERVED = ("if://guardian/", "if://conference/")

#: Below this an endpoint would do little but keep itself alive.
MIN_TIME_TO_LIVE_S = 10


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who an RRQ proved to come from."""

    method: Method
    terminal_id: str | None
    credential: Credential | None = None
    alias: str | None = None
    grant: Grant | None = None
    time_stamp: int = 0


def registration_request(context: Context, request: Request) -> list[Action]:
    """Answer an RRQ."""
    if request.value.get("keepAlive"):
        return _keep_alive(context, request)
    if "additiveRegistration" in request.value:
        return context.reject(request, "additiveRegistrationNotSupported", RejectReason.GATEKEEPER_ERROR)
    try:
        return _register(context, request)
    except Refused as refusal:
        return _refuse(context, request, refusal)


def _refuse(context: Context, request: Request, refusal: Refused) -> list[Action]:
    transaction = Transaction()
    payload = {"reason": refusal.reason.value, "detail": refusal.detail}
    context.note_stranger(transaction, "registration.rejected", request.source, request.now, **payload)
    fields: dict[str, Any] = {}
    if read_challenge(request.message) is not None:
        # A terminal whose cookie ran out or was used tries again at once.
        fields["tokens"] = [challenge_token(context.challenger.make(request.source, request.now))]
    choice = refusal.reason.registration_reject_reason
    return context.reject(request, choice, refusal.reason, transaction=transaction, fields=fields)


# Lightweight registration


def _keep_alive(context: Context, request: Request) -> list[Action]:
    transaction = Transaction()
    try:
        caller = recognise(context, request, transaction)
    except Refused as refusal:
        if refusal.known:
            return _refuse(context, request, refusal)
        return context.reject(request, "fullRegistrationRequired", RejectReason.NOT_REGISTERED)
    registration = caller.registration
    if not caller.stale:
        context.start_clocks(registration, request.now)
    keep = registration.method is not Method.UNSIGNED
    message = _confirm(context, request, registration, ())
    return context.answer(request, message, registration=registration, transaction=transaction, keep=keep, behind=False)


def _confirm(context: Context, request: Request, registration: Registration, aliases: tuple[Alias, ...]) -> Message:
    settings = context.settings
    body: dict[str, Any] = {
        "requestSeqNum": request.sequence,
        "protocolIdentifier": PROTOCOL_IDENTIFIER,
        "callSignalAddress": [transport_address(context.call_signal_address(request.source))],
        "gatekeeperIdentifier": settings.gatekeeper_identifier,
        "endpointIdentifier": registration.endpoint_identifier,
        "timeToLive": registration.time_to_live_s,
        "willRespondToIRR": registration.promises_iack,
        "maintainConnection": False,
    }
    if aliases:
        body["terminalAlias"] = list(aliases)
    if settings.pre_grant and settings.call_model is CallModel.GATEKEEPER_ROUTED:
        # Safe in routed mode only: the call meets the gates when its Setup arrives.
        body["preGrantedARQ"] = {
            "makeCall": True,
            "useGKCallSignalAddressToMakeCall": True,
            "answerCall": True,
            "useGKCallSignalAddressToAnswer": True,
            "irrFrequencyInCall": settings.irr_frequency_s,
        }
    return "registrationConfirm", body | alternates(context)


# Full registration


def _register(context: Context, request: Request) -> list[Action]:
    identity = _identify(context, request)
    aliases = _aliases(context, request, identity)
    signal = first_address(request.value["callSignalAddress"])
    if first_address(request.value["rasAddress"]) is None:
        return context.reject(request, "invalidRASAddress", RejectReason.GATEKEEPER_ERROR)
    if signal is None:
        return context.reject(request, "invalidCallSignalAddress", RejectReason.GATEKEEPER_ERROR)
    previous = _previous(context, request, identity, signal)
    taken = [
        alias
        for alias, holder in context.state.holders(aliases)
        if not (_same_owner(holder, identity) or (previous is not None and holder.key == previous.key))
    ]
    if not taken and not _may_supersede(context, request, identity, previous):
        taken = list(aliases)
    if taken:
        return context.reject(request, ("duplicateAlias", taken), RejectReason.NOT_REGISTERED)
    if previous is None and context.state.registration_count >= context.settings.max_registrations:
        return context.reject(request, "resourceUnavailable", RejectReason.CAPACITY_EXCEEDED)
    _spend(context, request, identity)

    guardian = context.registry.get(identity.terminal_id) if identity.terminal_id else None
    wanted_s = int(request.value.get("timeToLive", context.settings.time_to_live_s))
    registration = Registration(
        endpoint_identifier=previous.endpoint_identifier if previous else context.randbytes(16).hex(),
        terminal_id=identity.terminal_id,
        method=identity.method,
        source=request.source,
        call_signal_address=signal,
        aliases=aliases,
        time_to_live_s=max(MIN_TIME_TO_LIVE_S, min(wanted_s, context.settings.time_to_live_s)),
        trace_id=previous.trace_id if previous else context.new_trace(),
        credential_alias=identity.alias,
        time_stamp=identity.time_stamp,
        key_id=fingerprint(guardian) if guardian else None,
        grant=identity.grant.session_id if identity.grant else None,
    )
    return _accept(context, request, identity, registration, previous)


def _accept(
    context: Context, request: Request, identity: _Identity, registration: Registration, previous: Registration | None
) -> list[Action]:
    message = _confirm(context, request, registration, registration.aliases)
    octets = None
    if identity.credential is not None and identity.credential.key_exchange is not None:
        octets, session = open_session(
            message,
            request=request.pdu,
            terminal_exchange=identity.credential.key_exchange,
            key=context.service_key,
            epoch=context.epoch,
            challenge=context.randbytes(32),
        )
        registration = replace(registration, session=session)
    transaction = Transaction()
    superseded = _supersede(context, request, identity, previous, transaction)
    if registration.session is not None:
        context.open_link(registration, live=True)
    if identity.grant is not None:
        context.state.put_grant(replace(identity.grant, registered=True), transaction)
    context.state.put_registration(registration, transaction)
    context.start_clocks(registration, request.now)
    transaction.record(
        "registration.accepted",
        registration.trace_id,
        terminal_id=identity.terminal_id,
        method=identity.method.value,
        endpoint=context.pseudonym(registration.endpoint_identifier),
        source=context.pseudonym(request.source[0]),
        aliases=[context.pseudonym(normal_alias(alias)) for alias in registration.aliases],
        superseded=superseded,
    )
    keep = identity.method is not Method.UNSIGNED
    if octets is not None:
        return context.answer_octets(request, message[0], octets, registration=registration, transaction=transaction, keep=keep)
    return context.answer(request, message, registration=registration, transaction=transaction, keep=keep)


def _identify(context: Context, request: Request) -> _Identity:
    """Check the proof of a full RRQ, the strongest kind that it brings first.

    Raises:
        Refused: no proof, or one that does not hold.

    """
    try:
        credential = read_credential(request.message)
        if credential is not None:
            return _guardian(context, request, credential)
        alias = password_alias(context, request)
        if alias is not None:
            proof = check_password(context, request, alias)
            holder = context.state.of_alias(("", alias))
            if holder is not None and proof.time_stamp <= holder.time_stamp:
                raise SecurityError("this token is not newer than the registration's")
            owner = context.registry.owner_of(alias)
            terminal_id = owner.terminal_id if owner else None
            return _Identity(proof.method, terminal_id, alias=alias, time_stamp=proof.time_stamp)
    except SecurityError as error:
        raise Refused(RejectReason.INVALID_SIGNATURE, str(error)) from error
    for alias_value in text_aliases(request.value.get("terminalAlias", ())):
        grant = context.state.grant_for(alias_value, request.source[0])
        if grant is not None and (not grant.registered or _holds(context, request, grant)):
            return _Identity(Method.VOUCHED, grant.terminal_id, alias=alias_value[1], grant=grant)
    if context.settings.allow_unsigned:
        return _Identity(Method.UNSIGNED, None)
    raise Refused(RejectReason.INVALID_SIGNATURE, "no credential, password or voucher")


def _guardian(context: Context, request: Request, credential: Credential) -> _Identity:
    terminal_id = credential.claims.terminal_id
    guardian = context.registry.get(terminal_id)
    if guardian is None or guardian.status is not GuardianStatus.ACTIVE:
        raise Refused(RejectReason.NOT_REGISTERED, "no active guardian of that terminal_id")
    challenge = read_challenge(request.message)
    if challenge is None or credential.key_exchange is None:
        raise SecurityError("an RRQ needs a challenge and a key exchange")
    context.challenger.check(challenge, request.source, request.now)
    verify_credential(request.pdu, request.message, credential, guardian.public_key, challenge)
    return _Identity(Method.SIGNATURE, terminal_id, credential=credential)


def _spend(context: Context, request: Request, identity: _Identity) -> None:
    """Use up the challenge of a signed RRQ. Last of the checks, so that a refusal for another reason costs the guardian nothing.

    Raises:
        Refused: an RRQ with this challenge was accepted before, so this one is a replay.

    """
    challenge = read_challenge(request.message)
    if identity.credential is None or challenge is None:
        return
    if not context.used_challenges.accept(identity.credential.claims.terminal_id, challenge, request.now):
        raise Refused(RejectReason.INVALID_SIGNATURE, "this challenge was used before")


def _holds(context: Context, request: Request, grant: Grant) -> bool:
    registration = context.state.of_guardian(grant.terminal_id)
    return registration is not None and registration.grant == grant.session_id and registration.source == request.source


def _aliases(context: Context, request: Request, identity: _Identity) -> tuple[Alias, ...]:
    """Return the aliases that the endpoint may have; a guardian always has its terminal_id.

    Raises:
        Refused: too many, or one that belongs to the appliance or to another guardian.

    """
    aliases = text_aliases(request.value.get("terminalAlias", ()))
    if len(aliases) > MAX_ALIASES:
        raise Refused(RejectReason.GATEKEEPER_ERROR, f"more than {MAX_ALIASES} aliases")
    if sum(len(text) for _, text in aliases) > MAX_ALIAS_CHARACTERS:
        raise Refused(RejectReason.GATEKEEPER_ERROR, f"aliases of more than {MAX_ALIAS_CHARACTERS} characters")
    for alias in aliases:
        owner = context.registry.owner_of(alias[1])
        if normal_alias(alias) in context.rooms or (owner is not None and owner.terminal_id != identity.terminal_id):
            raise Refused(RejectReason.INVALID_SIGNATURE, "an alias belongs to somebody else")
        if owner is None and normal_alias(alias).startswith(RESERVED):
            raise Refused(RejectReason.INVALID_SIGNATURE, "an alias is a guardian's or a conference's name")
        if context.password(alias[1]) is not None and alias[1] != identity.alias:
            raise Refused(RejectReason.INVALID_SIGNATURE, "an alias has a password that was not given")
    if identity.method is Method.SIGNATURE and identity.terminal_id is not None:
        own: Alias = ("url-ID", identity.terminal_id)
        if all(normal_alias(alias) != normal_alias(own) for alias in aliases):
            aliases = (own, *aliases)
    return aliases


def _same_owner(registration: Registration, identity: _Identity) -> bool:
    return identity.terminal_id is not None and registration.terminal_id == identity.terminal_id


def _previous(context: Context, request: Request, identity: _Identity, signal: TransportAddress) -> Registration | None:
    """Return the registration that this RRQ renews, and whose endpointIdentifier and calls it therefore keeps."""
    named = context.state.registration(request.value.get("endpointIdentifier") or "")
    if named is not None and _may_renew(named, request, identity):
        return named
    if identity.method is Method.SIGNATURE:
        return None
    if identity.method is Method.H235_1 and identity.alias is not None:
        same = context.state.of_alias(("", identity.alias))
    else:
        same = context.state.of_signal_address(request.source[0], signal)
    return same if same is not None and _may_renew(same, request, identity) else None


def _may_renew(registration: Registration, request: Request, identity: _Identity) -> bool:
    if registration.method is not identity.method or registration.terminal_id != identity.terminal_id:
        return False
    if registration.credential_alias != identity.alias:
        return False
    # A signature or an HMAC proves who renews; the others have nothing but where they are.
    return identity.method in {Method.SIGNATURE, Method.H235_1} or registration.source == request.source


#: How much a method proves. Only what proves at least as much puts another registration out.
_STRENGTH = {Method.SIGNATURE: 3, Method.H235_1: 2, Method.H235_MD5: 1, Method.VOUCHED: 1, Method.UNSIGNED: 0}


def _other(context: Context, identity: _Identity, previous: Registration | None) -> Registration | None:
    """Return the guardian's live registration, if it is another than the one that is renewed."""
    other = context.state.of_guardian(identity.terminal_id) if identity.terminal_id else None
    return None if other is None or (previous is not None and other.key == previous.key) else other


def _may_supersede(context: Context, request: Request, identity: _Identity, previous: Registration | None) -> bool:
    """Say whether this RRQ may put out the guardian's other registration, if there is one.

    A token that was overheard must not: what can't prove the whole message supersedes from its own address alone.
    """
    other = _other(context, identity, previous)
    if other is None:
        return True
    strength = _STRENGTH[identity.method]
    proves_the_message = strength >= _STRENGTH[Method.H235_1]
    return strength >= _STRENGTH[other.method] and (proves_the_message or other.source == request.source)


def _supersede(
    context: Context, request: Request, identity: _Identity, previous: Registration | None, transaction: Transaction
) -> bool:
    """End the guardian's other registration: one live registration a guardian, the newest valid one wins."""
    other = _other(context, identity, previous)
    if other is None:
        return False
    # Not reregistrationRequired: two terminals of one guardian would put each other out for ever.
    reason = None if other.source == request.source else "undefinedReason"
    closing.unregister(context, other, "superseded", transaction, request.now, tell=reason)
    return True
