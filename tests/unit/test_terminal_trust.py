"""What a terminal must not believe, and what a bad network must not do to it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal_world import MEGABIT, World, guardian

from gatekeeperd.security.keys import KeyPair
from gatekeeperd.security.session import Direction, Session, protect
from gatekeeperd.security.tokens import challenge_token, with_tokens
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Admitted,
    Disengaged,
    Lost,
    Party,
    Refused,
    Registered,
    RegistrationRefused,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.states import State
from gatekeeperd.wire.h225 import decode_ras, encode_ras

GK = ("192.0.2.1", 1719)
STRANGER = ("203.0.113.9", 1719)
KEY, SERVICE, EVIL = (KeyPair.from_seed(seed * 32) for seed in (b"k", b"s", b"e"))
COUNCIL = CallRequest(destination="council", bandwidth_bps=2 * MEGABIT)
PROTOCOL = (0, 0, 8, 2250, 0, 7)


def council(world, **more):
    return world.gatekeeper(GK, [guardian("technical", KEY)], SERVICE, **more)


def in_a_call(world):
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    endpoint.start(world.now)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    call = endpoint.admit(COUNCIL)
    assert world.run(lambda: world.events_of(endpoint, Admitted))
    return endpoint, call


def forgeries(endpoint, call):
    """What an outsider would like a registered terminal to believe."""
    identifier = {"guid": bytes.fromhex(call)}
    own = ("ipAddress", {"ip": bytes((192, 0, 2, 10)), "port": 1720})
    return [
        ("unregistrationRequest", {"requestSeqNum": 7, "callSignalAddress": [own], "reason": ("maintenance", None)}),
        (
            "disengageRequest",
            {
                "requestSeqNum": 8,
                "endpointIdentifier": "x",
                "conferenceID": bytes(16),
                "callReferenceValue": 0,
                "disengageReason": ("forcedDrop", None),
                "callIdentifier": identifier,
                "answeredCall": False,
            },
        ),
        (
            "bandwidthRequest",
            {
                "requestSeqNum": 9,
                "endpointIdentifier": "x",
                "conferenceID": bytes(16),
                "callReferenceValue": 0,
                "bandWidth": 1,
                "callIdentifier": identifier,
                "answeredCall": False,
            },
        ),
        ("infoRequest", {"requestSeqNum": 10, "callReferenceValue": 0, "callIdentifier": {"guid": bytes(16)}}),
        *(
            answer
            # Whatever number an open request has, one of these fits it.
            for sequence in endpoint._line.transactions._open
            for answer in (
                (
                    "registrationConfirm",
                    {
                        "requestSeqNum": sequence,
                        "protocolIdentifier": PROTOCOL,
                        "callSignalAddress": [],
                        "endpointIdentifier": "x",
                        "timeToLive": 1_000_000,
                        "willRespondToIRR": False,
                        "maintainConnection": False,
                    },
                ),
                (
                    "registrationReject",
                    {
                        "requestSeqNum": sequence,
                        "protocolIdentifier": PROTOCOL,
                        "rejectReason": ("fullRegistrationRequired", None),
                    },
                ),
                ("admissionReject", {"requestSeqNum": sequence, "rejectReason": ("securityDenial", None)}),
                ("requestInProgress", {"requestSeqNum": sequence, "delay": 65_535}),
            )
        ),
    ]


@pytest.mark.parametrize("source", [GK, STRANGER])
@pytest.mark.parametrize("mac", ["none", "wrong", "own", "new challenge"])
def test_nothing_but_the_session_counts_once_there_is_one(source, mac):
    world = World()
    council(world)
    endpoint, call = in_a_call(world)
    # With requests open, so that forged answers have something to answer.
    world.kill(world.hosts[GK])
    endpoint.keep_alive()
    endpoint.admit(replace(COUNCIL, bandwidth_bps=MEGABIT))
    world.run(limit_s=0.1)
    before, calls, timer = len(world.events_of(endpoint)), endpoint.calls, endpoint.get_timer()
    session = Session(b"w" * 32, b"c" * 32, 1)
    messages = forgeries(endpoint, call)
    assert len(messages) == 4 + 2 * 4
    for message in messages:
        match mac:
            case "none":
                data = encode_ras(message)
            case "wrong":
                data = protect(message, session, 1 << 40, Direction.TO_TERMINAL)
            case "own":
                # Reflected: the terminal's own key, but the direction is in the MAC.
                data = protect(message, endpoint._line.association._session, 1 << 40, Direction.TO_GATEKEEPER)
            case "new challenge":
                data = protect(with_tokens(message, challenge_token(b"n" * 32)), session, 1 << 40, Direction.TO_TERMINAL)
        world.inject(data, source, endpoint.settings.ras_address)
    world.run(limit_s=0.1)
    assert len(world.events_of(endpoint)) == before
    assert endpoint.calls == calls
    assert endpoint.get_timer() == timer
    assert endpoint.state is State.REGISTERED
    assert endpoint.ignored == {"unauthenticated" if source == GK else "source": len(messages)}


def test_nothing_of_the_gatekeeper_counts_twice():
    world = World()
    host = council(world)
    endpoint, call = in_a_call(world)
    world.kill(host)
    world.boot(host)
    endpoint.keep_alive()
    world.run(limit_s=1)
    endpoint.disengage(call)
    assert world.run(lambda: world.events_of(endpoint, Disengaged))
    endpoint.admit(COUNCIL)
    assert world.run(lambda: len(world.events_of(endpoint, Admitted)) == 2)
    before, calls = len(world.events_of(endpoint)), endpoint.calls
    said = [data for _, source, _, data in world.sent if source == GK]
    for data in said:
        world.inject(data, GK, endpoint.settings.ras_address)
    world.run(limit_s=0.5)
    assert len(world.events_of(endpoint)) == before
    assert endpoint.calls == calls
    assert endpoint.ignored.total() == len(said)
    endpoint.keep_alive()
    moment = len(world.sent)
    world.run(limit_s=0.5)
    assert len(world.sent) - moment == 2, "no old challenge was brought back"


def test_a_gatekeeper_with_another_key_is_no_gatekeeper():
    world = World()
    council(world)
    endpoint = world.terminal("technical", KEY, [GK], [EVIL.public])
    endpoint.start(world.now)
    assert world.run(lambda: world.events_of(endpoint, Unreachable))
    assert world.events_of(endpoint, Unreachable)[-1].unproven == (GK,)
    assert endpoint.ignored["forged"] >= 1
    assert not world.events_of(endpoint, Registered)


def test_a_forged_rcf_does_not_keep_the_true_one_out():
    world = World()
    council(world)
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    world.lost = lambda source, _to, data: source == GK and decode_ras(data)[0] == "registrationConfirm"
    endpoint.start(world.now)
    world.run(limit_s=1)
    # The true answer to another terminal's request, renumbered: signed, but not for this one.
    (_, _, _, rcf) = next(each for each in world.sent if decode_ras(each[3])[0] == "registrationConfirm")
    name, fields = decode_ras(rcf)
    forged = [
        encode_ras((name, fields | {"endpointIdentifier": "mine"})),
        encode_ras((name, {key: value for key, value in fields.items() if key != "tokens"})),
    ]
    for data in forged:
        world.inject(data, GK, endpoint.settings.ras_address)
    world.run(limit_s=0.5)
    assert endpoint.state is State.REGISTERING
    assert endpoint.ignored["forged"] == len(forged)
    world.lost = lambda *_: False
    assert world.run(lambda: endpoint.state is State.REGISTERED, limit_s=5)
    assert world.events_of(endpoint, Registered)[0].endpoint_identifier == fields["endpointIdentifier"]


def test_an_answer_from_elsewhere_is_no_answer():
    world = World()
    council(world)
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    world.lost = lambda source, _to, _data: source == GK
    endpoint.start(world.now)
    world.run(limit_s=1)
    for _, _, _, data in [each for each in world.sent if each[1] == GK]:
        world.inject(data, STRANGER, endpoint.settings.ras_address)
    world.run(limit_s=1)
    assert endpoint.state is State.DISCOVERING
    assert endpoint.ignored == {"unexpected": 1}


def test_impatience_cannot_be_forged_for_ever():
    """Anybody can send RIP before there is a session; it may not hold the terminal up without end."""
    world = World()
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    endpoint.start(world.now)
    world.run(limit_s=0.1)
    for _ in range(50):
        if not endpoint._line.transactions._open:
            break
        sequence = next(iter(endpoint._line.transactions._open))
        rip = encode_ras(("requestInProgress", {"requestSeqNum": sequence, "delay": 65_535}))
        world.inject(rip, GK, endpoint.settings.ras_address)
        world.run(limit_s=60)
    assert world.events_of(endpoint, Unreachable)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600))
def test_no_octets_harm_it(octets):
    world = World()
    council(world)
    endpoint, call = in_a_call(world)
    before = len(world.events_of(endpoint))
    world.inject(octets, GK, endpoint.settings.ras_address)
    world.run(limit_s=0.1)
    assert endpoint.calls == (call,)
    assert len(world.events_of(endpoint)) == before
    assert endpoint.ignored.total() == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_octet_of_the_gatekeepers_passes(data):
    world = World()
    council(world)
    endpoint, call = in_a_call(world)
    world.lost = lambda source, _to, _data: source == GK
    endpoint.keep_alive()
    endpoint.admit(replace(COUNCIL, bandwidth_bps=200_000))
    world.run(limit_s=0.1)
    before = len(world.events_of(endpoint))
    octets = bytearray(data.draw(st.sampled_from([each[3] for each in world.sent if each[1] == GK][-2:])))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    world.inject(bytes(octets), GK, endpoint.settings.ras_address)
    world.run(limit_s=0.1)
    assert len(world.events_of(endpoint)) == before
    assert call in endpoint.calls
    assert endpoint.ignored.total() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_bad_network_is_only_slow(seed):
    """A quarter lost, a tenth doubled, overtaking by up to two seconds: in the end both sides agree."""
    world = World(seed, loss=0.25, duplicate=0.1, jitter=2.0)
    host = council(world)
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    for _ in range(30):
        if endpoint.state is State.IDLE:
            endpoint.start(world.now)
        elif endpoint.state is State.REGISTERED and not endpoint.calls:
            endpoint.admit(COUNCIL)
        world.run(limit_s=20)
    assert not world.events_of(endpoint, RegistrationRefused)
    # Over its quota it is while the DRQ of the call before is still on its way.
    assert {event.reason for event in world.events_of(endpoint, Refused, Lost)} <= {NO_ANSWER, "BANDWIDTH_EXCEEDED"}
    assert not world.events_of(endpoint, Unregistered)
    # A call ends by our will or with the registration, never by a message that was late or came twice.
    assert all(event.by is not Party.GATEKEEPER for event in world.events_of(endpoint, Disengaged))
    world.loss = world.duplicate = world.jitter = 0.0
    world.run(limit_s=400)
    if endpoint.state is State.IDLE:
        endpoint.start(world.now)
    world.run(limit_s=400)
    assert endpoint.state is State.REGISTERED
    assert host.core.registration_count == 1
    assert endpoint._line.association.endpoint_identifier in host.stored["registration"]
    assert host.core.call_count == len(endpoint.calls)
    endpoint.unregister()
    assert world.run(lambda: endpoint.state is State.IDLE)
    assert (host.core.registration_count, host.core.call_count) == (0, 0)
    assert (endpoint.calls, endpoint.get_timer()) == ((), None)
