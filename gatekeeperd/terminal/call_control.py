"""Admission, bandwidth, disengage and information requests of one registered terminal (H.225.0 v7 sections 7.11 to 7.15).

What lives here: the calls and what RAS says about them. What never does: registration, and trust: every message that
reaches this module was already proved to come from the gatekeeper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from gatekeeperd.core.ras.messages import Message, read_transport_address
from gatekeeperd.errors import DecodeError, TerminalError
from gatekeeperd.security.credential import Claims
from gatekeeperd.terminal import messages
from gatekeeperd.terminal.calls import Call, CallRequest, Phase
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Admitted,
    BandwidthChanged,
    BandwidthRefused,
    Disengaged,
    Party,
    Refused,
)
from gatekeeperd.terminal.line import Line
from gatekeeperd.terminal.messages import BANDWIDTH_UNIT_BPS
from gatekeeperd.terminal.transactions import Transaction

_REFERENCES = 0x7FFF  # CallReferenceValue: 15 bits, the sixteenth tells the side


class CallControl:
    """The calls of one terminal, by hexadecimal callIdentifier."""

    def __init__(self, line: Line, randbytes: Callable[[int], bytes]) -> None:
        self._line = line
        self._randbytes = randbytes
        self._reference = int.from_bytes(randbytes(2)) & _REFERENCES
        self.calls: dict[str, Call] = {}

    # What the owner asks for

    def admit(self, request: CallRequest) -> str:
        """Send ARQ and return the call's name in events.

        Raises:
            TerminalError: not registered, or the bandwidth is no multiple of 100 bit/s.

        """
        _check_bandwidth(request.bandwidth_bps)
        association = self._line.secured
        self._reference = self._reference % _REFERENCES + 1
        call = Call(
            guid=self._randbytes(16),
            conference_id=self._randbytes(16),
            reference=self._reference,
            destination=request.destination,
            bandwidth_bps=request.bandwidth_bps,
        )
        claims = Claims(
            terminal_id=self._line.settings.terminal_id,
            call_id=request.call_id or request.destination,
            call_type=request.call_type,
            has_pii=request.has_pii,
            bandwidth_bps=request.bandwidth_bps,
        )
        sequence = self._line.transactions.next_sequence()
        identifiers = association.gatekeeper_identifier, association.endpoint_identifier
        message = messages.admission_request(self._line.settings, sequence, *identifiers, call)
        self._line.request(message, call=call.key, claims=claims)
        self.calls[call.key] = call
        return call.key

    def change_bandwidth(self, key: str, bandwidth_bps: int) -> None:
        """Send BRQ for an admitted call.

        Raises:
            TerminalError: there is no such call, or the bandwidth is no multiple of 100 bit/s.

        """
        _check_bandwidth(bandwidth_bps)
        call = self._admitted(key)
        association = self._line.secured
        sequence = self._line.transactions.next_sequence()
        identifiers = association.gatekeeper_identifier, association.endpoint_identifier
        self._line.request(messages.bandwidth_request(sequence, *identifiers, call, bandwidth_bps), call=key)

    def disengage(self, key: str) -> None:
        """Send DRQ for an admitted call.

        Raises:
            TerminalError: there is no such call.

        """
        call = self._admitted(key)
        self._leave(call, key)

    def drop_all(self, by: Party, reason: str) -> None:
        """End every call: the registration that carried them is gone."""
        for call in list(self.calls.values()):
            self._end(call, by, reason)

    # Timers

    def deadline(self) -> float | None:
        """When the next unsolicited IRR is due."""
        return min((call.irr_at for call in self.calls.values() if call.irr_at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Send the IRRs that are due (ACF irrFrequency)."""
        for call in self.calls.values():
            if call.irr_at is not None and call.irr_at <= now:
                self._schedule_report(call, now)
                message = self._information(
                    self._line.transactions.next_sequence(), [call], solicited=False, respond=call.irr_confirmed
                )
                if call.irr_confirmed:
                    # Awaited only to be repeated when lost: IACK and INAK change nothing here.
                    self._line.request(message)
                else:
                    self._line.notify(message)

    # Answers

    def answered(self, transaction: Transaction, message: Message, now: float) -> None:
        """Act on the answer to one of our requests about calls."""
        call = self.calls.get(transaction.call or "")
        if call is not None:
            self._ANSWERS[message[0]](self, call, message[1], now)

    def unanswered(self, transaction: Transaction) -> None:
        """Act on a request that ran out of retries."""
        call = self.calls.get(transaction.call or "")
        if call is None:
            return
        match transaction.name:
            case "admissionRequest":
                self._line.events.append(Refused(call=call.key, reason=NO_ANSWER, detail="the gatekeeper did not answer ARQ"))
                # The ACF may be what got lost: give back what it may have granted, whatever becomes of that.
                del self.calls[call.key]
                self._leave(call, None)
            case "bandwidthRequest":
                self._bandwidth_refused(call, NO_ANSWER, "the gatekeeper did not answer BRQ", call.bandwidth_bps)
            case "disengageRequest":
                self._end(call, Party.TERMINAL, NO_ANSWER)

    def _admission_confirmed(self, call: Call, fields: dict[str, Any], now: float) -> None:
        try:
            address = read_transport_address(fields["destCallSignalAddress"])
        except DecodeError as error:
            self._line.events.append(Refused(call=call.key, reason="noRouteToDestination", detail=str(error)))
            del self.calls[call.key]
            self._leave(call, None)
            return
        call.phase = Phase.ADMITTED
        call.bandwidth_bps = fields["bandWidth"] * BANDWIDTH_UNIT_BPS
        call.call_model = fields["callModel"][0]
        call.irr_frequency_s = fields.get("irrFrequency")
        call.irr_confirmed = fields.get("willRespondToIRR", False)
        self._schedule_report(call, now)
        self._line.events.append(
            Admitted(
                call=call.key,
                address=address,
                bandwidth_bps=call.bandwidth_bps,
                call_model=call.call_model,
                irr_frequency_s=call.irr_frequency_s,
            )
        )

    def _admission_rejected(self, call: Call, fields: dict[str, Any], _now: float) -> None:
        reason, detail = messages.refusal(fields)
        del self.calls[call.key]
        self._line.events.append(Refused(call=call.key, reason=reason, detail=detail))

    def _bandwidth_confirmed(self, call: Call, fields: dict[str, Any], _now: float) -> None:
        self._set_bandwidth(call, fields["bandWidth"] * BANDWIDTH_UNIT_BPS, Party.TERMINAL)

    def _bandwidth_rejected(self, call: Call, fields: dict[str, Any], _now: float) -> None:
        self._bandwidth_refused(call, *messages.refusal(fields), fields["allowedBandWidth"] * BANDWIDTH_UNIT_BPS)

    def _disengaged(self, call: Call, _fields: dict[str, Any], _now: float) -> None:
        self._end(call, Party.TERMINAL, "normalDrop")

    def _disengage_rejected(self, call: Call, fields: dict[str, Any], _now: float) -> None:
        self._end(call, Party.TERMINAL, messages.refusal(fields)[0])

    _ANSWERS: ClassVar[Mapping[str, Callable[[CallControl, Call, dict[str, Any], float], None]]] = MappingProxyType(
        {
            "admissionConfirm": _admission_confirmed,
            "admissionReject": _admission_rejected,
            "bandwidthConfirm": _bandwidth_confirmed,
            "bandwidthReject": _bandwidth_rejected,
            "disengageConfirm": _disengaged,
            "disengageReject": _disengage_rejected,
        }
    )

    # Requests of the gatekeeper

    def disengage_request(self, pdu: bytes, fields: dict[str, Any]) -> None:
        """DRQ of the gatekeeper: confirm and end the call."""
        call = self._find(fields)
        if call is None:
            reject = {"requestSeqNum": fields["requestSeqNum"], "rejectReason": ("requestToDropOther", None)}
            self._line.answer(pdu, ("disengageReject", reject))
            return
        self._line.answer(pdu, ("disengageConfirm", {"requestSeqNum": fields["requestSeqNum"]}))
        self._end(call, Party.GATEKEEPER, fields["disengageReason"][0])

    def bandwidth_request(self, pdu: bytes, fields: dict[str, Any]) -> None:
        """BRQ of the gatekeeper: confirm and hold to it."""
        call = self._find(fields)
        if call is None:
            reject = {
                "requestSeqNum": fields["requestSeqNum"],
                "rejectReason": ("invalidConferenceID", None),
                "allowedBandWidth": 0,
            }
            self._line.answer(pdu, ("bandwidthReject", reject))
            return
        confirm = {"requestSeqNum": fields["requestSeqNum"], "bandWidth": fields["bandWidth"]}
        self._line.answer(pdu, ("bandwidthConfirm", confirm))
        self._set_bandwidth(call, fields["bandWidth"] * BANDWIDTH_UNIT_BPS, Party.GATEKEEPER)

    def info_request(self, pdu: bytes, fields: dict[str, Any]) -> None:
        """IRQ: report the call it names, or all for callReferenceValue 0 (section 7.15.1)."""
        admitted = [call for call in self.calls.values() if call.phase is Phase.ADMITTED]
        if fields["callReferenceValue"]:
            named = self._find(fields)
            admitted = [call for call in admitted if call is named]
        self._line.answer(pdu, self._information(fields["requestSeqNum"], admitted, solicited=True, respond=False))

    # Helpers

    def _admitted(self, key: str) -> Call:
        call = self.calls.get(key)
        if call is None or call.phase is not Phase.ADMITTED:
            raise TerminalError(f"there is no admitted call {key}")
        return call

    def _find(self, fields: dict[str, Any]) -> Call | None:
        identifier = fields.get("callIdentifier")
        if identifier is not None and any(identifier["guid"]):
            return self.calls.get(identifier["guid"].hex())
        matches = (call for call in self.calls.values() if call.reference == fields["callReferenceValue"])
        return next(matches, None)

    def _information(self, sequence: int, calls: list[Call], *, solicited: bool, respond: bool) -> Message:
        identifier = self._line.secured.endpoint_identifier
        return messages.information(self._line.settings, sequence, identifier, calls, solicited=solicited, respond=respond)

    def _schedule_report(self, call: Call, now: float) -> None:
        call.irr_at = now + call.irr_frequency_s if call.irr_frequency_s else None

    def _set_bandwidth(self, call: Call, bandwidth_bps: int, by: Party) -> None:
        call.bandwidth_bps = bandwidth_bps
        self._line.events.append(BandwidthChanged(call=call.key, bandwidth_bps=bandwidth_bps, by=by))

    def _bandwidth_refused(self, call: Call, reason: str, detail: str, allowed_bps: int) -> None:
        self._line.events.append(BandwidthRefused(call=call.key, reason=reason, detail=detail, allowed_bps=allowed_bps))

    def _leave(self, call: Call, key: str | None) -> None:
        call.phase = Phase.LEAVING
        call.irr_at = None
        association = self._line.secured
        sequence = self._line.transactions.next_sequence()
        identifiers = association.gatekeeper_identifier, association.endpoint_identifier
        self._line.request(messages.disengage_request(sequence, *identifiers, call), call=key)

    def _end(self, call: Call, by: Party, reason: str) -> None:
        del self.calls[call.key]
        self._line.events.append(Disengaged(call=call.key, by=by, reason=reason))


def _check_bandwidth(bandwidth_bps: int) -> None:
    if bandwidth_bps <= 0 or bandwidth_bps % BANDWIDTH_UNIT_BPS:
        raise TerminalError(f"{bandwidth_bps} bit/s: H.225.0 counts bandwidth in units of {BANDWIDTH_UNIT_BPS} bit/s")
