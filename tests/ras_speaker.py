"""What an endpoint says: hand-made RAS messages with the proofs that they need, over whatever a test lets it speak through.

``tests/unit/ras_zone.py`` lets it speak to a core without sockets, ``tests/integration/ras_peer.py`` over UDP.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.ras.messages import PROTOCOL_IDENTIFIER, transport_address
from gatekeeperd.security.credential import CallType, Claims, sign_message
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.service import accept_session
from gatekeeperd.security.session import Direction, Exchange, Session, check, protect, renewed
from gatekeeperd.security.tokens import challenge_token, read_challenge, with_tokens
from gatekeeperd.wire import h225

TERMINAL = {"terminal": {}, "mc": False, "undefinedNode": False}
VENDOR = {"vendor": {"t35CountryCode": 9, "t35Extension": 0, "manufacturerCode": 61}}

Message = tuple[str, dict[str, Any]]


class Speaker:
    """An endpoint that says what the test tells it to; ``session`` once it has signed in.

    Subclasses have ``exchange``: send a PDU, return the octets of the one answer to it.
    """

    def __init__(self, source: TransportAddress, name: str, key: KeyPair | None, service_key: bytes) -> None:
        self.source = source
        self.signal = (source[0], 1720)
        self.name = name
        self.terminal_id = f"if://guardian/{name}"
        self.key = key
        self.service_key = service_key
        self.session: Session | None = None
        self.endpoint_identifier = ""
        self.sequence = itertools.count(1)
        self.counter = itertools.count(1)

    def exchange(self, pdu: bytes) -> bytes:
        raise NotImplementedError

    # Messages

    def grq(self, **more: Any) -> Message:
        alias = [("url-ID", self.terminal_id)] if self.key else [("h323-ID", self.name)]
        return (
            "gatekeeperRequest",
            {
                "requestSeqNum": next(self.sequence),
                "protocolIdentifier": PROTOCOL_IDENTIFIER,
                "rasAddress": transport_address(self.source),
                "endpointType": TERMINAL,
                "endpointAlias": alias,
            }
            | more,
        )

    def rrq(self, **more: Any) -> Message:
        aliases = [("h323-ID", self.name)] + ([("url-ID", self.terminal_id)] if self.key else [])
        return (
            "registrationRequest",
            {
                "requestSeqNum": next(self.sequence),
                "protocolIdentifier": PROTOCOL_IDENTIFIER,
                "discoveryComplete": True,
                "callSignalAddress": [transport_address(self.signal)],
                "rasAddress": [transport_address(self.source)],
                "terminalType": TERMINAL,
                "terminalAlias": aliases,
                "endpointVendor": VENDOR,
                "timeToLive": 60,
                "keepAlive": False,
                "willSupplyUUIEs": False,
                "maintainConnection": False,
            }
            | more,
        )

    def keep_alive(self, **more: Any) -> Message:
        return self.rrq(**{"keepAlive": True, "endpointIdentifier": self.endpoint_identifier, "terminalAlias": []} | more)

    def arq(
        self, guid: bytes = b"\x01" * 16, *, to: Any = ("h323-ID", "council"), bandwidth: int = 5_000, **more: Any
    ) -> Message:
        return (
            "admissionRequest",
            {
                "requestSeqNum": next(self.sequence),
                "callType": ("pointToPoint", None),
                "endpointIdentifier": self.endpoint_identifier,
                "destinationInfo": [to],
                "srcInfo": [("h323-ID", self.name)],
                "bandWidth": bandwidth,
                "callReferenceValue": 7,
                "conferenceID": guid,
                "activeMC": False,
                "answerCall": False,
                "canMapAlias": True,
                "callIdentifier": {"guid": guid},
                "willSupplyUUIEs": False,
            }
            | more,
        )

    def _call(self, name: str, guid: bytes, body: dict[str, Any], more: dict[str, Any]) -> Message:
        common = {
            "requestSeqNum": next(self.sequence),
            "endpointIdentifier": self.endpoint_identifier,
            "conferenceID": guid,
            "callReferenceValue": 7,
            "callIdentifier": {"guid": guid},
        }
        return name, common | body | more

    def brq(self, guid: bytes = b"\x01" * 16, *, bandwidth: int = 8_000, **more: Any) -> Message:
        return self._call("bandwidthRequest", guid, {"bandWidth": bandwidth}, more)

    def drq(self, guid: bytes = b"\x01" * 16, **more: Any) -> Message:
        return self._call("disengageRequest", guid, {"disengageReason": ("normalDrop", None), "answeredCall": False}, more)

    def urq(self, **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "callSignalAddress": [transport_address(self.signal)],
            "endpointIdentifier": self.endpoint_identifier,
        }
        return "unregistrationRequest", body | more

    def irr(self, *guids: bytes, sequence: int | None = None, **more: Any) -> Message:
        body: dict[str, Any] = {
            "requestSeqNum": sequence or next(self.sequence),
            "endpointType": TERMINAL,
            "endpointIdentifier": self.endpoint_identifier,
            "rasAddress": transport_address(self.source),
            "callSignalAddress": [transport_address(self.signal)],
            "needResponse": False,
            "unsolicited": sequence is None,
        }
        if guids:
            body["perCallInfo"] = [
                {
                    "callReferenceValue": 7,
                    "conferenceID": guid,
                    "h245": {},
                    "callSignalling": {},
                    "callType": ("pointToPoint", None),
                    "bandWidth": 5_000,
                    "callModel": ("gatekeeperRouted", None),
                    "callIdentifier": {"guid": guid},
                }
                for guid in guids
            ]
        return "infoRequestResponse", body | more

    def rai(self, *, low: bool, **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "protocolIdentifier": PROTOCOL_IDENTIFIER,
            "endpointIdentifier": self.endpoint_identifier,
            "protocols": [],
            "almostOutOfResources": low,
        }
        return "resourcesAvailableIndicate", body | more

    def sci(self, **more: Any) -> Message:
        body = {"requestSeqNum": next(self.sequence), "endpointIdentifier": self.endpoint_identifier, "serviceControl": []}
        return "serviceControlIndication", body | more

    def lrq(self, alias: tuple[str, str], **more: Any) -> Message:
        body = {
            "requestSeqNum": next(self.sequence),
            "destinationInfo": [alias],
            "replyAddress": transport_address(self.source),
            "endpointIdentifier": self.endpoint_identifier or "nobody",
        }
        return "locationRequest", body | more

    # Proofs

    def protected(self, message: Message, *, counter: int | None = None) -> bytes:
        """Write a message with the proof that it needs: a MAC, and for an ARQ the credential too."""
        if self.session is None:
            return h225.encode_ras(message)
        return protect(message, self.session, counter or next(self.counter), Direction.TO_GATEKEEPER)

    def signed(self, message: Message, *, key: KeyPair | None = None, session: Session | None = None, **claims: Any) -> bytes:
        """Sign an ARQ for what it asks for, unless ``claims`` say otherwise."""
        assert self.session is not None
        assert self.key is not None
        defaults = {
            "call_id": "weekly",
            "call_type": CallType.ROUTINE,
            "bandwidth_bps": message[1]["bandWidth"] * 100,
            "counter": next(self.counter),
        }
        session = session or self.session
        stated = Claims(claims.pop("terminal_id", self.terminal_id), **(defaults | claims))
        return sign_message(message, stated, key or self.key, session.challenge, session=session)

    def signed_rrq(self, message: Message, challenge: bytes, exchange: Exchange, key: KeyPair | None = None) -> bytes:
        key = key or self.key
        assert key is not None
        message = with_tokens(message, challenge_token(challenge))
        return sign_message(message, Claims(self.terminal_id), key, challenge, key_exchange=exchange.public)

    # Conversations

    def ask(self, message: Message) -> Message:
        """Send with MAC and return the answer."""
        return h225.decode_ras(self.exchange(self.protected(message)))

    def admit(self, guid: bytes = b"\x01" * 16, *, claims: Mapping[str, Any] | None = None, **more: Any) -> Message:
        message = self.arq(guid, **more)
        pdu = self.signed(message, **(claims or {})) if self.session else h225.encode_ras(message)
        return h225.decode_ras(self.exchange(pdu))

    def challenge(self) -> bytes:
        challenge = read_challenge(h225.decode_ras(self.exchange(h225.encode_ras(self.grq()))))
        assert challenge is not None
        return challenge

    def register(self, **more: Any) -> Message:
        """Register as this peer can: signing, or plainly."""
        if self.key is None:
            answer = h225.decode_ras(self.exchange(h225.encode_ras(self.rrq(**more))))
        else:
            exchange = Exchange.generate()
            pdu = self.signed_rrq(self.rrq(**more), self.challenge(), exchange)
            octets = self.exchange(pdu)
            answer = h225.decode_ras(octets)
            if answer[0] == "registrationConfirm":
                self.session = accept_session(octets, answer, request=pdu, exchange=exchange, service_key=self.service_key)
                self.counter = itertools.count(1)
        self.endpoint_identifier = answer[1].get("endpointIdentifier", self.endpoint_identifier)
        return answer

    def renew(self, answer: Message) -> None:
        """Take the fresh challenge that an answer after a restart carries."""
        fresh = read_challenge(answer)
        assert fresh is not None
        assert self.session is not None
        self.session = renewed(self.session, fresh)
        self.counter = itertools.count(1)

    def is_authentic(self, data: bytes) -> bool:
        """Say whether a datagram of the gatekeeper carries this session's MAC."""
        assert self.session is not None
        return check(data, h225.decode_ras(data), self.session, Direction.TO_TERMINAL) > 0


def reason(answer: Message) -> str:
    """The name that a refusal gives itself."""
    data: bytes = answer[1]["nonStandardData"]["data"]
    return data.decode().partition("\n")[0]
