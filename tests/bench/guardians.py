"""Guardians for the load generator: registered with a signature, their admission requests signed beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatekeeperd.core.ras.messages import Message
from gatekeeperd.policy.registry import Guardian, GuardianStatus
from gatekeeperd.policy.registry_edit import write_registry
from gatekeeperd.security.credential import CallType, Claims, sign_message
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.service import accept_session
from gatekeeperd.security.session import Exchange
from gatekeeperd.security.tokens import challenge_token, read_challenge, with_tokens
from gatekeeperd.terminal import messages
from gatekeeperd.terminal.association import Association
from gatekeeperd.terminal.calls import Call
from gatekeeperd.terminal.settings import EndpointSettings
from gatekeeperd.wire.h225 import decode_ras, encode_ras
from tests.bench.load import Generator


def terminal_id(number: int) -> str:
    return f"if://guardian/load-{number}"


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(number.to_bytes(32, "big"))


def write_guardians(path: Path, count: int) -> None:
    """Write a registry of ``count`` guardians with room for any number of calls."""
    write_registry(
        path,
        [
            Guardian(
                terminal_id=terminal_id(number),
                public_key=key(number).public,
                role="load",
                description="",
                archetype="load",
                bandwidth_quota_bps=100_000_000,
                registered_at=datetime(2026, 1, 1, tzinfo=UTC),
                status=GuardianStatus.ACTIVE,
                veto_power=False,
                specialization=(),
            )
            for number in range(1, count + 1)
        ],
    )


def endpoint(number: int, generator: Generator) -> EndpointSettings:
    """Settings of endpoint ``number``: all share the generator's RAS address and differ in signalling port and aliases.

    Whom they would ask and believe is the generator's business, so those two say nothing.
    """
    return EndpointSettings(
        terminal_id=terminal_id(number),
        key=key(number),
        service_keys=(bytes(32),),
        gatekeepers=(("127.0.0.1", 1719),),
        ras_address=generator.address,
        call_signal_address=(f"127.1.{number >> 14}.1", 2000 + number % 16_384),
        aliases=(f"load-{number}",),
    )


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A guardian with its session."""

    settings: EndpointSettings
    association: Association


def sign_in(number: int, generator: Generator, service_key: bytes) -> SignedIn:
    """Discover and register by signature."""
    settings = endpoint(number, generator)
    gcf = decode_ras(generator.exchange(encode_ras(messages.gatekeeper_request(settings, 1, None))))
    challenge, exchange = read_challenge(gcf), Exchange.generate()
    assert challenge is not None
    identifier = gcf[1]["gatekeeperIdentifier"]
    rrq = with_tokens(messages.registration_request(settings, 2, identifier), challenge_token(challenge))
    request = sign_message(rrq, Claims(settings.terminal_id), settings.key, challenge, key_exchange=exchange.public)
    pdu = generator.exchange(request)
    rcf = decode_ras(pdu)
    session = accept_session(pdu, rcf, request=request, exchange=exchange, service_key=service_key)
    association = Association(
        session, address=generator.address, gatekeeper_identifier=identifier, endpoint_identifier=rcf[1]["endpointIdentifier"]
    )
    return SignedIn(settings, association)


def admission(guardian: SignedIn, number: int, sequence: int) -> bytes:
    """A signed ARQ for call ``number``."""
    guid = number.to_bytes(16, "big")
    call = Call(guid=guid, conference_id=guid, reference=number % 32_767 + 1, destination="council", bandwidth_bps=128_000)
    association = guardian.association
    message: Message = messages.admission_request(
        guardian.settings, sequence, association.gatekeeper_identifier, association.endpoint_identifier, call
    )
    claims = Claims(guardian.settings.terminal_id, "load", CallType.ROUTINE, has_pii=False, bandwidth_bps=call.bandwidth_bps)
    return association.sign(message, claims, guardian.settings.key)


def numbered() -> Iterator[int]:
    """requestSeqNum after requestSeqNum, round and round."""
    while True:
        yield from range(1, 65_000)
