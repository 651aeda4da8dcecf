"""The terminal against a gatekeeper that says what a test wants, which ours would not: redirects, own BRQs, URQs, oddities."""

from dataclasses import replace

import pytest
from terminal_world import MEGABIT

from gatekeeperd.security.credential import read_credential
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.oids import REJECT_REASON
from gatekeeperd.security.service import open_session
from gatekeeperd.security.session import Direction, check, protect
from gatekeeperd.security.tokens import challenge_token, read_challenge
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.endpoint import Endpoint
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Admitted,
    BandwidthChanged,
    BandwidthRefused,
    Discovered,
    Disengaged,
    Lost,
    Party,
    Refused,
    Registered,
    RegistrationRefused,
    Unregistered,
)
from gatekeeperd.terminal.settings import DISCOVERY_GROUP, EndpointSettings
from gatekeeperd.terminal.states import TRANSITIONS, State
from gatekeeperd.wire.h225 import decode_ras, encode_ras

GK, OTHER, OWN = ("192.0.2.1", 1719), ("192.0.2.2", 1719), ("192.0.2.10", 20_000)
KEY, SERVICE = KeyPair.from_seed(b"k" * 32), KeyPair.from_seed(b"s" * 32)
PROTOCOL = (0, 0, 8, 2250, 0, 7)
COUNCIL = CallRequest(destination="council", bandwidth_bps=MEGABIT)


def at(address):
    return "ipAddress", {"ip": bytes(map(int, address[0].split("."))), "port": address[1]}


def alternate(address, priority=1, *, need_to_register=True):
    return {"rasAddress": at(address), "needToRegister": need_to_register, "priority": priority}


class Script:
    """Both ends: the endpoint under test and the words that a test puts into the gatekeeper's mouth."""

    def __init__(self, **settings):
        self.now = 0.0
        self.address = GK
        self.endpoint = Endpoint(
            EndpointSettings(
                **{
                    "terminal_id": "if://guardian/technical",
                    "key": KEY,
                    "service_keys": (SERVICE.public,),
                    "gatekeepers": (GK,),
                    "ras_address": OWN,
                    "call_signal_address": (OWN[0], 1720),
                }
                | settings
            )
        )
        self.session = None
        self.counter = 1 << 32
        self.events = []

    def heard(self):
        """What the endpoint has to say now: destination, octets, message."""
        sends = self.endpoint.datagrams_to_send(self.now)
        return [(send.to, send.data, decode_ras(send.data)) for send in sends]

    def hear(self, name):
        ((to, data, message),) = self.heard()
        assert message[0] == name
        return to, data, message[1]

    def say(self, name, fields, *, source=None):
        """Say it in the open, as before there is a session."""
        self._deliver(encode_ras((name, fields)), source)

    def tell(self, name, fields):
        """Say it under the session."""
        self.counter += 1
        self._deliver(protect((name, fields), self.session, self.counter, Direction.TO_TERMINAL), None)

    def _deliver(self, data, source):
        self.last = data
        self.endpoint.receive_datagram(data, source or self.address, self.now)
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)

    def again(self):
        self._deliver(self.last, None)

    def wait(self):
        """Let time pass until the endpoint's next deadline."""
        self.now = self.endpoint.get_timer()
        self.endpoint.handle_timer(self.now)
        while (event := self.endpoint.next_event()) is not None:
            self.events.append(event)

    def confirm_discovery(self, fields, **more):
        gcf = {"requestSeqNum": fields["requestSeqNum"], "protocolIdentifier": PROTOCOL, "gatekeeperIdentifier": "council"}
        self.say("gatekeeperConfirm", gcf | {"rasAddress": at(self.address), "tokens": [challenge_token(b"c" * 32)]} | more)

    def confirm_registration(self, data, fields, **more):
        rcf = {
            "requestSeqNum": fields["requestSeqNum"],
            "protocolIdentifier": PROTOCOL,
            "callSignalAddress": [at((GK[0], 1720))],
            "gatekeeperIdentifier": "council",
            "endpointIdentifier": "e" * 32,
            "timeToLive": 120,
            "willRespondToIRR": False,
            "maintainConnection": False,
        }
        exchange = read_credential(("registrationRequest", fields)).key_exchange
        octets, self.session = open_session(
            ("registrationConfirm", rcf | more),
            request=data,
            terminal_exchange=exchange,
            key=SERVICE,
            epoch=1,
            challenge=b"s" * 32,
        )
        self._deliver(octets, None)

    def register(self, **rcf):
        if self.endpoint.state is State.IDLE:
            self.endpoint.start(self.now)
        _, _, grq = self.hear("gatekeeperRequest")
        self.confirm_discovery(grq)
        _, data, rrq = self.hear("registrationRequest")
        assert read_challenge(("registrationRequest", rrq)) == b"c" * 32
        self.confirm_registration(data, rrq, **rcf)
        assert self.endpoint.state is State.REGISTERED
        return self

    def admit(self, request=COUNCIL, **acf):
        call = self.endpoint.admit(request)
        _, data, arq = self.hear("admissionRequest")
        check(data, ("admissionRequest", arq), self.session, Direction.TO_GATEKEEPER)
        confirm = {
            "requestSeqNum": arq["requestSeqNum"],
            "bandWidth": arq["bandWidth"],
            "callModel": ("direct", None),
            "destCallSignalAddress": at((GK[0], 1720)),
        }
        self.tell("admissionConfirm", confirm | acf)
        return call, arq


# Discovery


def test_a_gatekeeper_may_be_served_from_another_address():
    script = Script()
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq, rasAddress=at(OTHER))
    to, data, rrq = script.hear("registrationRequest")
    assert to == OTHER
    script.address = OTHER
    script.confirm_registration(data, rrq)
    assert script.events[-1].address == OTHER


def test_anybody_may_answer_a_multicast_but_nobody_may_forbid_it():
    script = Script(gatekeepers=(DISCOVERY_GROUP,))
    script.endpoint.start(0.0)
    to, _, grq = script.hear("gatekeeperRequest")
    assert to == DISCOVERY_GROUP
    reject = {"requestSeqNum": grq["requestSeqNum"], "protocolIdentifier": PROTOCOL}
    script.say("gatekeeperReject", reject | {"rejectReason": ("terminalExcluded", None)}, source=OTHER)
    assert script.endpoint.state is State.DISCOVERING
    script.confirm_discovery(grq)
    to, data, rrq = script.hear("registrationRequest")
    assert to == GK
    script.confirm_registration(data, rrq)
    assert script.endpoint.state is State.REGISTERED


@pytest.mark.parametrize(
    "oddity",
    [
        {"rasAddress": ("ipxAddress", {"node": bytes(6), "netnum": bytes(4), "port": bytes(2)})},
        {"tokens": [challenge_token(b"c" * 31)]},
        {"tokens": [challenge_token(b"c" * 32), challenge_token(b"d" * 32)]},
    ],
)
def test_an_odd_gcf_leads_to_the_next_gatekeeper(oddity):
    script = Script(gatekeepers=(GK, OTHER))
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq, **oddity)
    assert script.hear("gatekeeperRequest")[0] == OTHER
    assert not [event for event in script.events if isinstance(event, Discovered)]


@pytest.mark.parametrize(
    ("name", "request_"), [("gatekeeperReject", "gatekeeperRequest"), ("registrationReject", "registrationRequest")]
)
def test_a_redirect_is_followed_best_first(name, request_):
    script = Script()
    script.endpoint.start(0.0)
    _, _, fields = script.hear("gatekeeperRequest")
    if name == "registrationReject":
        script.confirm_discovery(fields)
        _, _, fields = script.hear("registrationRequest")
    third = ("192.0.2.3", 1719)
    redirect = {"alternateGatekeeper": [alternate(third, 5), alternate(OTHER, 0), alternate(GK, 0)], "altGKisPermanent": False}
    reject = {"requestSeqNum": fields["requestSeqNum"], "protocolIdentifier": PROTOCOL, "altGKInfo": redirect}
    script.say(name, reject | {"rejectReason": ("resourceUnavailable", None)})
    assert script.hear("gatekeeperRequest")[0] == OTHER
    script.wait()
    assert script.hear("gatekeeperRequest")[0] == third


def test_a_refusal_without_our_names_gives_the_recommendations():
    script = Script()
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq)
    _, _, rrq = script.hear("registrationRequest")
    reject = {"requestSeqNum": rrq["requestSeqNum"], "protocolIdentifier": PROTOCOL}
    script.say("registrationReject", reject | {"rejectReason": ("duplicateAlias", [("h323-ID", "x")])})
    assert script.events[-1] == RegistrationRefused(reason="duplicateAlias", detail="")
    assert script.endpoint.state is State.IDLE


def test_a_used_up_challenge_is_replaced_once():
    script = Script()
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq)
    for challenge in (b"1" * 32, b"2" * 32):
        _, _, rrq = script.hear("registrationRequest")
        extra = {"nonStandardIdentifier": ("object", REJECT_REASON), "data": b"INVALID_SIGNATURE\nstale"}
        reject = {"requestSeqNum": rrq["requestSeqNum"], "protocolIdentifier": PROTOCOL, "nonStandardData": extra}
        reject["tokens"] = [challenge_token(challenge)]
        script.say("registrationReject", reject | {"rejectReason": ("securityDenial", None)})
    assert script.events[-1] == RegistrationRefused(reason="INVALID_SIGNATURE", detail="stale")
    assert not script.heard()


def test_discovery_required_is_done_once():
    script = Script()
    script.endpoint.start(0.0)
    for _ in range(2):
        _, _, grq = script.hear("gatekeeperRequest")
        script.confirm_discovery(grq)
        _, _, rrq = script.hear("registrationRequest")
        reject = {"requestSeqNum": rrq["requestSeqNum"], "protocolIdentifier": PROTOCOL}
        script.say("registrationReject", reject | {"rejectReason": ("discoveryRequired", None)})
    assert isinstance(script.events[-1], RegistrationRefused)


def test_a_silent_registrar_is_given_up_and_the_next_asked():
    script = Script(gatekeepers=(GK, OTHER))
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq)
    sent = []
    while not sent or sent[-1][2][0] == "registrationRequest":
        sent += script.heard()
        script.wait()
        sent += script.heard()
    assert [message[0] for _, _, message in sent] == ["registrationRequest"] * 3 + ["gatekeeperRequest"]
    assert len({data for _, data, _ in sent[:3]}) == 1
    assert sent[-1][0] == OTHER


def test_an_answer_to_another_question_is_none():
    script = Script()
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.say("unregistrationConfirm", {"requestSeqNum": grq["requestSeqNum"]})
    script.say("gatekeeperConfirm", {"requestSeqNum": 1, "protocolIdentifier": PROTOCOL, "rasAddress": at(GK)}, source=OTHER)
    assert script.endpoint.ignored == {"unexpected": 2}
    assert script.endpoint.state is State.DISCOVERING


# Registration


def test_no_time_to_live_is_no_keep_alive():
    script = Script()
    script.endpoint.start(0.0)
    _, _, grq = script.hear("gatekeeperRequest")
    script.confirm_discovery(grq)
    _, data, rrq = script.hear("registrationRequest")
    rcf = {
        "requestSeqNum": rrq["requestSeqNum"],
        "protocolIdentifier": PROTOCOL,
        "callSignalAddress": [],
        "endpointIdentifier": "e",
        "willRespondToIRR": False,
        "maintainConnection": False,
    }
    exchange = read_credential(("registrationRequest", rrq)).key_exchange
    octets, _ = open_session(
        ("registrationConfirm", rcf), request=data, terminal_exchange=exchange, key=SERVICE, epoch=1, challenge=b"s" * 32
    )
    script._deliver(octets, None)
    assert script.events[-1] == Registered(address=GK, gatekeeper_identifier="", endpoint_identifier="e", time_to_live_s=None)
    assert script.endpoint.get_timer() is None


@pytest.mark.parametrize(
    ("reason", "outcome", "state"),
    [("fullRegistrationRequired", Lost, State.DISCOVERING), ("securityDenial", RegistrationRefused, State.IDLE)],
)
def test_a_proven_refusal_to_keep_alive(reason, outcome, state):
    script = Script().register()
    call, _ = script.admit()
    script.endpoint.keep_alive()
    _, _, rrq = script.hear("registrationRequest")
    reject = {"requestSeqNum": rrq["requestSeqNum"], "protocolIdentifier": PROTOCOL, "rejectReason": (reason, None)}
    script.tell("registrationReject", reject)
    assert isinstance(script.events[-1], outcome)
    assert Disengaged(call=call, by=Party.LOSS, reason=reason) in script.events
    assert script.endpoint.state is state


def test_patience_under_the_session_is_granted_and_ends():
    script = Script().register()
    script.endpoint.admit(COUNCIL)
    _, _, arq = script.hear("admissionRequest")
    for _ in range(20):
        script.tell("requestInProgress", {"requestSeqNum": arq["requestSeqNum"], "delay": 60_000})
    assert script.endpoint.ignored == {"unexpected": 12}
    assert script.endpoint.get_timer() == 60.0


@pytest.mark.parametrize(("reason", "back"), [("maintenance", True), ("ttlExpired", True), ("securityDenial", False)])
def test_a_urq_is_confirmed_and_obeyed(reason, back):
    script = Script().register()
    call, _ = script.admit()
    urq = {"requestSeqNum": 9, "callSignalAddress": [], "reason": (reason, None), "alternateGatekeeper": [alternate(OTHER)]}
    script.tell("unregistrationRequest", urq)
    assert script.events[-2:] == [
        Disengaged(call=call, by=Party.GATEKEEPER, reason=reason),
        Unregistered(by=Party.GATEKEEPER, reason=reason),
    ]
    sent = script.heard()
    assert sent[0][2][0] == "unregistrationConfirm"
    check(sent[0][1], sent[0][2], script.session, Direction.TO_GATEKEEPER)
    # Told where else to go, it goes there first.
    assert [(to, message[0]) for to, _, message in sent[1:]] == ([(OTHER, "gatekeeperRequest")] if back else [])
    # The UCF was lost: the same octets get the same answer, although the session is over.
    script.again()
    assert script.heard() == [sent[0]]


def test_a_urq_without_a_reason_is_obeyed():
    script = Script().register()
    script.tell("unregistrationRequest", {"requestSeqNum": 9, "callSignalAddress": []})
    assert script.events[-1] == Unregistered(by=Party.GATEKEEPER, reason="undefinedReason")


def test_a_urq_that_meets_our_own():
    script = Script().register()
    script.endpoint.unregister()
    script.hear("unregistrationRequest")
    script.tell("unregistrationRequest", {"requestSeqNum": 9, "callSignalAddress": [], "reason": ("maintenance", None)})
    assert script.hear("unregistrationConfirm")
    assert script.endpoint.state is State.IDLE
    assert script.endpoint.get_timer() is None


def test_a_refused_urq_is_the_end_too():
    script = Script().register()
    script.endpoint.unregister()
    _, _, urq = script.hear("unregistrationRequest")
    script.tell("unregistrationReject", {"requestSeqNum": urq["requestSeqNum"], "rejectReason": ("notCurrentlyRegistered", None)})
    assert script.events[-1] == Unregistered(by=Party.TERMINAL, reason="notCurrentlyRegistered")


# Calls


def test_an_address_that_cannot_be_signalled_to_is_a_refusal_and_given_back():
    script = Script().register()
    call, _ = script.admit(
        destCallSignalAddress=("ipxAddress", {"node": bytes(6), "netnum": bytes(4), "port": bytes(2)}),
    )
    assert script.events[-1].reason == "noRouteToDestination"
    assert script.hear("disengageRequest")[2]["callIdentifier"]["guid"].hex() == call
    assert not script.endpoint.calls


def test_an_acf_may_grant_less_than_was_asked():
    script = Script().register()
    script.admit(bandWidth=5000)
    assert script.events[-1].bandwidth_bps == 500_000
    assert script.events[-1].call_model == "direct"


@pytest.mark.parametrize("by", ["callIdentifier", "callReferenceValue"])
def test_a_brq_of_the_gatekeeper_is_confirmed_and_held_to(by):
    script = Script().register()
    call, arq = script.admit()
    brq = {
        "requestSeqNum": 5,
        "endpointIdentifier": "e" * 32,
        "conferenceID": bytes(16),
        "callReferenceValue": arq["callReferenceValue"] if by == "callReferenceValue" else 0,
        "bandWidth": 1280,
        "callIdentifier": arq["callIdentifier"] if by == "callIdentifier" else {"guid": bytes(16)},
        "answeredCall": False,
    }
    script.tell("bandwidthRequest", brq)
    assert script.hear("bandwidthConfirm")[2]["bandWidth"] == 1280
    assert script.events[-1] == BandwidthChanged(call=call, bandwidth_bps=128_000, by=Party.GATEKEEPER)
    script.tell("infoRequest", {"requestSeqNum": 6, "callReferenceValue": 0, "callIdentifier": {"guid": bytes(16)}})
    (told,) = script.hear("infoRequestResponse")[2]["perCallInfo"]
    assert told["bandWidth"] == 1280


@pytest.mark.parametrize(("name", "answer"), [("bandwidthRequest", "bandwidthReject"), ("disengageRequest", "disengageReject")])
def test_a_call_that_is_not_ours_is_said_not_to_be(name, answer):
    script = Script().register()
    call, _ = script.admit()
    fields = {
        "requestSeqNum": 5,
        "endpointIdentifier": "e" * 32,
        "conferenceID": bytes(16),
        "callReferenceValue": 0,
        "callIdentifier": {"guid": b"x" * 16},
        "answeredCall": False,
    }
    extra = {"bandWidth": 1} if name == "bandwidthRequest" else {"disengageReason": ("forcedDrop", None)}
    script.tell(name, fields | extra)
    assert script.hear(answer)
    assert script.endpoint.calls == (call,)


def test_information_about_one_call_leaves_the_others_out():
    script = Script().register()
    script.admit()
    second, arq = script.admit()
    script.tell(
        "infoRequest",
        {"requestSeqNum": 6, "callReferenceValue": arq["callReferenceValue"], "callIdentifier": arq["callIdentifier"]},
    )
    _, _, irr = script.hear("infoRequestResponse")
    assert [each["callIdentifier"]["guid"].hex() for each in irr["perCallInfo"]] == [second]
    assert irr["requestSeqNum"] == 6
    script.tell("infoRequest", {"requestSeqNum": 7, "callReferenceValue": 1, "callIdentifier": {"guid": b"x" * 16}})
    assert "perCallInfo" not in script.hear("infoRequestResponse")[2]


def test_reports_that_nobody_confirms_are_sent_once_each():
    script = Script().register()
    script.admit(irrFrequency=10, willRespondToIRR=False)
    for _ in range(3):
        script.wait()
        _, data, irr = script.hear("infoRequestResponse")
        check(data, ("infoRequestResponse", irr), script.session, Direction.TO_GATEKEEPER)
        assert irr["unsolicited"]
        assert not irr["needResponse"]
    assert script.now == 30.0


def test_a_bandwidth_request_that_nobody_answers_changes_nothing():
    script = Script().register()
    call, _ = script.admit()
    script.endpoint.change_bandwidth(call, 2 * MEGABIT)
    for _ in range(3):
        script.hear("bandwidthRequest")
        script.wait()
    refused = BandwidthRefused(call=call, reason=NO_ANSWER, detail="the gatekeeper did not answer BRQ", allowed_bps=MEGABIT)
    assert script.events[-1] == refused
    assert script.endpoint.admitted == (call,)


def test_a_refused_disengage_ends_the_call_all_the_same():
    script = Script().register()
    call, _ = script.admit()
    script.endpoint.disengage(call)
    _, _, drq = script.hear("disengageRequest")
    assert script.endpoint.admitted == ()
    script.tell("disengageReject", {"requestSeqNum": drq["requestSeqNum"], "rejectReason": ("notRegistered", None)})
    assert script.events[-1] == Disengaged(call=call, by=Party.TERMINAL, reason="notRegistered")


def test_an_answer_to_a_call_that_the_gatekeeper_ended_meanwhile_is_nothing():
    script = Script().register()
    call, arq = script.admit()
    script.endpoint.change_bandwidth(call, 2 * MEGABIT)
    _, _, brq = script.hear("bandwidthRequest")
    drq = {
        "requestSeqNum": 5,
        "endpointIdentifier": "e" * 32,
        "conferenceID": bytes(16),
        "callReferenceValue": 0,
        "disengageReason": ("forcedDrop", None),
        "callIdentifier": arq["callIdentifier"],
        "answeredCall": False,
    }
    script.tell("disengageRequest", drq)
    script.tell("bandwidthConfirm", {"requestSeqNum": brq["requestSeqNum"], "bandWidth": 1})
    assert not [event for event in script.events if isinstance(event, BandwidthChanged)]
    assert not script.endpoint.calls


def test_an_admission_that_was_answered_late_is_not_taken_up():
    script = Script().register()
    call = script.endpoint.admit(COUNCIL)
    _, _, arq = script.hear("admissionRequest")
    while not [event for event in script.events if isinstance(event, Refused)]:
        script.wait()
        script.heard()
    confirm = {
        "requestSeqNum": arq["requestSeqNum"],
        "bandWidth": 1,
        "callModel": ("direct", None),
        "destCallSignalAddress": at(GK),
    }
    script.tell("admissionConfirm", confirm)
    assert not [event for event in script.events if isinstance(event, Admitted)]
    assert call not in script.endpoint.calls


@pytest.mark.parametrize(
    ("destination", "alias"),
    [
        ("council", ("h323-ID", "council")),
        ("4420123456", ("dialledDigits", "4420123456")),
        ("*12#", ("dialledDigits", "*12#")),
        ("council@example.org", ("email-ID", "council@example.org")),
        ("h323:council@example.org", ("url-ID", "h323:council@example.org")),
    ],
)
def test_a_destination_is_the_alias_it_looks_like(destination, alias):
    script = Script().register()
    _, arq = script.admit(replace(COUNCIL, destination=destination))
    assert arq["destinationInfo"] == [alias]


def test_messages_that_hold_no_fields_are_nothing():
    script = Script().register()
    script.say("admissionConfirmSequence", [])
    assert script.endpoint.ignored.total() == 1
    assert script.endpoint.state is State.REGISTERED


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS) == set(State)
    assert {state for each in TRANSITIONS.values() for state in each} == set(State)
    assert all(TRANSITIONS.values())
