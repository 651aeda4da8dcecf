"""The terminal's state machine against the real gatekeeper core: everything that goes right, and every refusal."""

from dataclasses import replace

import pytest
from terminal_world import MEGABIT, START, World, guardian

from gatekeeperd.core.settings import AlternateGatekeeper
from gatekeeperd.errors import TerminalError
from gatekeeperd.policy.gates import Limits
from gatekeeperd.policy.registry import GuardianStatus, Registry
from gatekeeperd.security.credential import CallType
from gatekeeperd.security.keys import KeyPair
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Admitted,
    BandwidthChanged,
    BandwidthRefused,
    Disengaged,
    KeptAlive,
    Lost,
    Party,
    Refused,
    Registered,
    RegistrationRefused,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.states import State
from gatekeeperd.wire.h225 import decode_ras

GK = ("192.0.2.1", 1719)
OTHER = ("192.0.2.2", 1719)
KEY, SERVICE = KeyPair.from_seed(b"k" * 32), KeyPair.from_seed(b"s" * 32)
WRONG_KEY = KeyPair.from_seed(b"x" * 32)
COUNCIL = CallRequest(destination="council", bandwidth_bps=2 * MEGABIT)


@pytest.fixture
def world():
    world = World()
    world.gatekeeper(GK, [guardian("technical", KEY)], SERVICE)
    return world


def registered(world, **settings):
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public], **settings)
    endpoint.start(world.now)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    return endpoint


def admitted(world, endpoint, request=COUNCIL):
    call = endpoint.admit(request)
    assert world.run(lambda: any(event.call == call for event in world.events_of(endpoint, Admitted)))
    return call


def last(world, endpoint, *kinds):
    return world.events_of(endpoint, *kinds)[-1]


def sent_after(world, endpoint, moment):
    own = endpoint.settings.ras_address
    return [decode_ras(data) for time, source, _, data in world.sent if source == own and time >= moment]


# The good case


def test_it_registers_is_admitted_and_leaves(world):
    endpoint = registered(world)
    registration = last(world, endpoint, Registered)
    assert (registration.address, registration.gatekeeper_identifier, registration.time_to_live_s) == (GK, "council", 120)
    call = admitted(world, endpoint)
    assert last(world, endpoint, Admitted).address == (GK[0], 1720)
    assert last(world, endpoint, Admitted).bandwidth_bps == 2 * MEGABIT
    endpoint.disengage(call)
    assert world.run(lambda: world.events_of(endpoint, Disengaged))
    assert last(world, endpoint, Disengaged) == Disengaged(call=call, by=Party.TERMINAL, reason="normalDrop")
    endpoint.unregister()
    assert world.run(lambda: world.events_of(endpoint, Unregistered))
    assert world.hosts[GK].core.registration_count == 0
    assert not endpoint.ignored
    assert endpoint.get_timer() is None


def test_it_keeps_alive_and_reports_for_an_hour(world):
    endpoint = registered(world)
    admitted(world, endpoint)
    world.run(limit_s=3_600)
    assert endpoint.state is State.REGISTERED
    assert 3_600 / 120 <= len(world.events_of(endpoint, KeptAlive)) <= 3_600 / (0.72 * 120)
    reports = [name for name in world.names_sent(endpoint.settings.ras_address) if name == "infoRequestResponse"]
    assert len(reports) == 3_600 // 120 - 1 or len(reports) == 3_600 // 120
    assert world.hosts[GK].core.call_count == 1
    assert not endpoint.ignored


def test_bandwidth_can_be_changed_within_the_quota(world):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    endpoint.change_bandwidth(call, MEGABIT)
    assert world.run(lambda: world.events_of(endpoint, BandwidthChanged))
    assert last(world, endpoint, BandwidthChanged) == BandwidthChanged(call=call, bandwidth_bps=MEGABIT, by=Party.TERMINAL)
    assert world.hosts[GK].core.bandwidth_in_use_bps == MEGABIT
    endpoint.change_bandwidth(call, 3 * MEGABIT)
    assert world.run(lambda: world.events_of(endpoint, BandwidthRefused))
    refused = last(world, endpoint, BandwidthRefused)
    assert (refused.reason, refused.allowed_bps) == ("BANDWIDTH_EXCEEDED", MEGABIT)
    assert world.hosts[GK].core.bandwidth_in_use_bps == MEGABIT


def test_what_needs_a_registration_says_so(world):
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    with pytest.raises(TerminalError, match="not registered"):
        endpoint.admit(COUNCIL)
    with pytest.raises(TerminalError, match="not registered"):
        endpoint.keep_alive()
    endpoint.start(world.now)
    with pytest.raises(TerminalError, match="already"):
        endpoint.start(world.now)


@pytest.mark.parametrize("bandwidth_bps", [0, -100, 150])
def test_a_bandwidth_that_h225_cannot_say_is_refused_at_once(world, bandwidth_bps):
    endpoint = registered(world)
    with pytest.raises(TerminalError, match="units of 100"):
        endpoint.admit(replace(COUNCIL, bandwidth_bps=bandwidth_bps))
    assert not endpoint.calls


@pytest.mark.parametrize("missing", [{"gatekeepers": ()}, {"service_keys": ()}])
def test_settings_that_could_never_register_are_refused(world, missing):
    endpoint = registered(world)
    with pytest.raises(TerminalError):
        replace(endpoint.settings, **missing)


# Refusals


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(COUNCIL, call_type=CallType.ESCALATE, has_pii=True), "PII_POLICY_VIOLATION"),
        (replace(COUNCIL, bandwidth_bps=26 * MEGABIT // 10), "BANDWIDTH_EXCEEDED"),
        (replace(COUNCIL, destination="nobody-here"), "GATEKEEPER_ERROR"),
    ],
)
def test_a_refused_admission_names_its_reason(world, request_, reason):
    endpoint = registered(world)
    call = endpoint.admit(request_)
    assert world.run(lambda: world.events_of(endpoint, Refused))
    refused = last(world, endpoint, Refused)
    assert (refused.call, refused.reason) == (call, reason)
    assert not endpoint.calls
    assert world.hosts[GK].core.call_count == 0


def test_a_full_room_refuses_by_capacity():
    keys = [KeyPair.generate() for _ in range(3)]
    world = World()
    guardians = [guardian(f"g{index}", key) for index, key in enumerate(keys)]
    world.gatekeeper(GK, guardians, SERVICE, limits=Limits(room_participants=2))
    endpoints = [world.terminal(f"g{index}", key, [GK], [SERVICE.public]) for index, key in enumerate(keys)]
    for endpoint in endpoints:
        endpoint.start(world.now)
    assert world.run(lambda: all(each.state is State.REGISTERED for each in endpoints))
    for endpoint in endpoints[:2]:
        admitted(world, endpoint)
    endpoints[2].admit(COUNCIL)
    assert world.run(lambda: world.events_of(endpoints[2], Refused))
    assert last(world, endpoints[2], Refused).reason == "CAPACITY_EXCEEDED"


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("stranger", KeyPair.from_seed(b"x" * 32), "NOT_REGISTERED"),
        ("technical", KeyPair.from_seed(b"x" * 32), "INVALID_SIGNATURE"),
    ],
)
def test_a_refused_registration_names_its_reason(world, name, key, reason):
    endpoint = world.terminal(name, key, [GK], [SERVICE.public])
    endpoint.start(world.now)
    assert world.run(lambda: world.events_of(endpoint, RegistrationRefused))
    assert last(world, endpoint, RegistrationRefused).reason == reason
    assert endpoint.state is State.IDLE
    assert world.hosts[GK].core.registration_count == 0


def test_another_zone_is_no_answer(world):
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public], gatekeeper_identifier="elsewhere")
    endpoint.start(world.now)
    assert world.run(lambda: world.events_of(endpoint, RegistrationRefused))
    assert endpoint.state is State.IDLE


# What the gatekeeper asks


def test_a_revoked_call_is_left_and_confirmed(world):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    core = world.hosts[GK].core
    world._carry_out(world.hosts[GK], [core.revoke(core.sessions(world.now)[0].session_id, world.now)], GK)
    assert world.run(lambda: world.events_of(endpoint, Disengaged))
    assert last(world, endpoint, Disengaged) == Disengaged(call=call, by=Party.GATEKEEPER, reason="forcedDrop")
    world.run(limit_s=1)
    assert world.names_sent(endpoint.settings.ras_address)[-1] == "disengageConfirm"
    assert not core._context.asked


def test_a_repeated_request_of_the_gatekeeper_gets_the_same_answer(world):
    endpoint = registered(world)
    admitted(world, endpoint)
    core = world.hosts[GK].core
    moment = world.now
    world.lost = lambda source, _to, _data: source == endpoint.settings.ras_address
    world._carry_out(world.hosts[GK], [core.revoke(core.sessions(world.now)[0].session_id, world.now)], GK)
    world.run(limit_s=4)
    world.lost = lambda *_: False
    world.run(limit_s=4)
    confirms = [data for time, source, _, data in world.sent if time >= moment and source == endpoint.settings.ras_address]
    assert len(confirms) >= 2
    assert len(set(confirms)) == 1
    assert len(world.events_of(endpoint, Disengaged)) == 1
    assert not core._context.asked


def test_a_suspended_guardian_is_unregistered_and_stays_away(world):
    endpoint = registered(world)
    admitted(world, endpoint)
    host = world.hosts[GK]
    suspended = replace(guardian("technical", KEY), status=GuardianStatus.SUSPENDED)
    world._carry_out(host, [host.core.replace_registry(Registry((suspended,), "01"), world.now)], GK)
    assert world.run(lambda: world.events_of(endpoint, Unregistered))
    assert last(world, endpoint, Unregistered).by is Party.GATEKEEPER
    assert last(world, endpoint, Disengaged).by is Party.GATEKEEPER
    moment = world.now
    world.run(limit_s=300)
    assert {name for name, _ in sent_after(world, endpoint, moment)} <= {"unregistrationConfirm", "disengageConfirm"}


def test_who_is_superseded_does_not_come_back(world):
    old = registered(world)
    newer = registered(world)
    assert world.run(lambda: world.events_of(old, Unregistered))
    world.run(limit_s=600)
    assert (old.state, newer.state) == (State.IDLE, State.REGISTERED)
    assert len(world.events_of(newer, Registered)) == 1


def test_an_information_request_is_answered_with_the_call(world):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    own = endpoint.settings.ras_address
    # Unsolicited reports get lost, so the gatekeeper asks by IRQ; the answer to that one arrives.
    world.lost = lambda source, _to, data: source == own and decode_ras(data)[1].get("unsolicited", False)
    moment = world.now
    world.run(limit_s=280)
    answers = [
        fields
        for name, fields in sent_after(world, endpoint, moment)
        if name == "infoRequestResponse" and not fields["unsolicited"]
    ]
    assert [each["callIdentifier"]["guid"].hex() for each in answers[0]["perCallInfo"]] == [call]
    assert world.hosts[GK].core.call_count == 1


def test_patience_is_kept_when_a_commit_is_slow(world):
    endpoint = registered(world)
    world.hosts[GK].commit_s = 7.0
    moment = world.now
    call = endpoint.admit(COUNCIL)
    assert world.run(lambda: world.events_of(endpoint, Admitted))
    assert last(world, endpoint, Admitted).call == call
    assert [name for name, _ in sent_after(world, endpoint, moment)] == ["admissionRequest"]
    assert "requestInProgress" in world.names_sent(GK)


# Silence


def test_nobody_there_is_said_after_three_rounds(world):
    nowhere = [("198.51.100.1", 1719), ("198.51.100.2", 1719)]
    endpoint = world.terminal("technical", KEY, nowhere, [SERVICE.public])
    endpoint.start(world.now)
    assert world.run(lambda: world.events_of(endpoint, Unreachable))
    assert last(world, endpoint, Unreachable) == Unreachable(tried=tuple(nowhere), unproven=(), retry_in_s=None)
    assert [to for _, _, to, _ in world.sent] == nowhere * 3
    assert world.now == START + 30
    assert endpoint.state is State.IDLE


def test_a_dead_gatekeeper_is_asked_three_times_and_the_same(world):
    endpoint = registered(world)
    world.kill(world.hosts[GK])
    moment = world.now
    call = endpoint.admit(COUNCIL)
    assert world.run(lambda: world.events_of(endpoint, Refused))
    assert last(world, endpoint, Refused).reason == NO_ANSWER
    asked = [
        (time - moment, data) for time, _, _, data in world.sent if time >= moment and decode_ras(data)[0] == "admissionRequest"
    ]
    assert [time for time, _ in asked] == [0, 5, 10]
    assert len({data for _, data in asked}) == 1
    assert call not in endpoint.calls
    # What it may have been granted is given back, in case the gatekeeper lives and its ACF was lost.
    assert "disengageRequest" in world.names_sent(endpoint.settings.ras_address)


def test_a_confirm_that_was_lost_for_good_leaves_no_call_behind(world):
    endpoint = registered(world)
    world.lost = lambda source, _to, data: source == GK and decode_ras(data)[0] == "admissionConfirm"
    endpoint.admit(COUNCIL)
    assert world.run(lambda: world.events_of(endpoint, Refused))
    world.run(limit_s=1)
    assert world.hosts[GK].core.call_count == 0


def test_leaving_a_dead_gatekeeper_ends_all_the_same(world):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    world.kill(world.hosts[GK])
    endpoint.disengage(call)
    assert world.run(lambda: world.events_of(endpoint, Disengaged))
    assert last(world, endpoint, Disengaged).reason == NO_ANSWER
    endpoint.unregister()
    assert world.run(lambda: world.events_of(endpoint, Unregistered))
    assert last(world, endpoint, Unregistered) == Unregistered(by=Party.TERMINAL, reason=NO_ANSWER)


def test_it_searches_on_with_growing_pauses_and_comes_back(world):
    endpoint = registered(world, backoff_s=(1.0, 4.0))
    admitted(world, endpoint)
    host = world.hosts[GK]
    world.kill(host)
    assert world.run(lambda: len(world.events_of(endpoint, Unreachable)) == 4, limit_s=600)
    assert [event.retry_in_s for event in world.events_of(endpoint, Unreachable)] == [1.0, 2.0, 4.0, 4.0]
    assert last(world, endpoint, Lost) == Lost(address=GK, reason=NO_ANSWER)
    assert last(world, endpoint, Disengaged).by is Party.LOSS
    world.boot(host)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    assert len(world.events_of(endpoint, Registered)) == 2


def test_a_search_can_be_stopped(world):
    endpoint = registered(world)
    world.kill(world.hosts[GK])
    assert world.run(lambda: world.events_of(endpoint, Unreachable), limit_s=600)
    endpoint.unregister()
    world.run(limit_s=0.1)
    assert endpoint.state is State.IDLE
    assert endpoint.get_timer() is None


# A gatekeeper that comes back, or another in its place


@pytest.mark.parametrize("ask", ["keep_alive", "admit", "bandwidth", "disengage", "unregister"])
def test_a_restart_costs_one_repetition_and_nothing_else(world, ask):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    host = world.hosts[GK]
    world.kill(host)
    world.boot(host)
    moment, before = world.now, len(world.events_of(endpoint))
    ask, answer = {
        "keep_alive": (endpoint.keep_alive, KeptAlive),
        "admit": (lambda: endpoint.admit(replace(COUNCIL, bandwidth_bps=200_000)), Admitted),
        "bandwidth": (lambda: endpoint.change_bandwidth(call, MEGABIT), BandwidthChanged),
        "disengage": (lambda: endpoint.disengage(call), Disengaged),
        "unregister": (endpoint.unregister, Unregistered),
    }[ask]
    ask()
    assert world.run(lambda: any(isinstance(event, answer) for event in world.events_of(endpoint)[before:]), limit_s=2)
    asked = sent_after(world, endpoint, moment)
    assert len(asked) == 2
    assert asked[0][0] == asked[1][0]
    assert asked[0][1]["requestSeqNum"] != asked[1][1]["requestSeqNum"]
    assert not endpoint.ignored
    # The new challenge holds from then on.
    if endpoint.state is State.REGISTERED:
        moment = world.now
        endpoint.keep_alive()
        world.run(limit_s=1)
        assert len(sent_after(world, endpoint, moment)) == 1


@pytest.mark.parametrize("lost", ["nothing", "admissionRequest", "disengageRequest", "registrationRequest"])
def test_two_requests_in_flight_over_a_restart(world, lost):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    host = world.hosts[GK]
    world.kill(host)
    world.boot(host)
    first = []

    def lose(_source, _to, data):
        if decode_ras(data)[0] == lost:
            first.append(data)
            return len(first) == 1
        return False

    world.lost = lose
    endpoint.keep_alive()
    other = endpoint.admit(replace(COUNCIL, bandwidth_bps=200_000))
    endpoint.disengage(call)
    assert world.run(lambda: all(world.events_of(endpoint, kind) for kind in (KeptAlive, Disengaged)), limit_s=30)
    assert world.run(lambda: len(world.events_of(endpoint, Admitted)) == 2, limit_s=30)
    assert endpoint.calls == (other,)
    assert host.core.call_count == 1
    assert not world.events_of(endpoint, Lost)


def test_it_lives_through_restart_after_restart(world):
    endpoint = registered(world)
    call = admitted(world, endpoint)
    host = world.hosts[GK]
    for _ in range(5):
        world.kill(host)
        world.run(limit_s=3)
        world.boot(host)
        world.run(limit_s=world.random.random() * 200)
    assert endpoint.state is State.REGISTERED
    assert endpoint.calls == (call,)
    assert len(world.events_of(endpoint, Registered)) == 1
    assert host.core.call_count == 1


def test_an_answer_of_before_the_restart_still_counts(world):
    """ACF lost, gatekeeper restarted, a keepAlive renews the challenge meanwhile: the repeated ARQ gets the old answer."""
    endpoint = registered(world)
    host = world.hosts[GK]
    world.lost = lambda source, _to, _data: source == GK
    endpoint.admit(COUNCIL)
    world.run(limit_s=1)
    world.kill(host)
    world.boot(host)
    world.lost = lambda *_: False
    endpoint.keep_alive()
    assert world.run(lambda: world.events_of(endpoint, Admitted), limit_s=20)
    assert host.core.call_count == 1


def test_it_registers_at_the_alternate_when_the_first_dies():
    world = World()
    guardians = [guardian("technical", KEY)]
    other_service = KeyPair.from_seed(b"t" * 32)
    decoy = AlternateGatekeeper(ras_address=("192.0.2.3", 1719), gatekeeper_identifier="far", priority=9)
    alternate = AlternateGatekeeper(ras_address=OTHER, gatekeeper_identifier="second", priority=2)
    world.gatekeeper(GK, guardians, SERVICE, alternates=(decoy, alternate))
    world.gatekeeper(OTHER, guardians, other_service, gatekeeper_identifier="second")
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public, other_service.public])
    endpoint.start(world.now)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    call = admitted(world, endpoint)
    world.kill(world.hosts[GK])
    died = world.now
    assert world.run(lambda: len(world.events_of(endpoint, Registered)) == 2, limit_s=200)
    registration = last(world, endpoint, Registered)
    assert (registration.address, registration.gatekeeper_identifier, registration.resumed) == (OTHER, "second", False)
    assert last(world, endpoint, Disengaged) == Disengaged(call=call, by=Party.LOSS, reason=NO_ANSWER)
    # Noticed at the keepAlive after at most 80 % of 120 s, tried 3 times 3 s; the better alternate is asked first.
    assert world.now - died <= 96 + 9 + 0.1
    assert world.hosts[OTHER].core.registration_count == 1


def test_an_alternate_that_shares_the_registrations_carries_the_call_on():
    world = World()
    guardians = [guardian("technical", KEY)]
    alternate = AlternateGatekeeper(ras_address=OTHER, gatekeeper_identifier="council", need_to_register=False)
    first = world.gatekeeper(GK, guardians, SERVICE, alternates=(alternate,))
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    endpoint.start(world.now)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    call = admitted(world, endpoint)
    second = world.gatekeeper(OTHER, guardians, SERVICE)
    world.kill(first)
    world.kill(second)
    second.stored, second.epoch = first.stored, first.epoch
    world.boot(second)
    assert world.run(lambda: world.events_of(endpoint, Lost), limit_s=200)
    assert world.run(lambda: len(world.events_of(endpoint, Registered)) == 2)
    assert last(world, endpoint, Registered).resumed
    assert last(world, endpoint, Registered).address == OTHER
    assert endpoint.calls == (call,)
    assert not world.events_of(endpoint, Disengaged)
    endpoint.disengage(call)
    assert world.run(lambda: world.events_of(endpoint, Disengaged))
    assert second.core.call_count == 0


def test_an_alternate_that_was_said_to_share_but_does_not_is_registered_at():
    world = World()
    guardians = [guardian("technical", KEY)]
    alternate = AlternateGatekeeper(ras_address=OTHER, gatekeeper_identifier="council", need_to_register=False)
    first = world.gatekeeper(GK, guardians, SERVICE, alternates=(alternate,))
    world.gatekeeper(OTHER, guardians, SERVICE)
    endpoint = world.terminal("technical", KEY, [GK], [SERVICE.public])
    endpoint.start(world.now)
    assert world.run(lambda: endpoint.state is State.REGISTERED)
    world.kill(first)
    assert world.run(lambda: len(world.events_of(endpoint, Registered)) == 2, limit_s=300)
    assert last(world, endpoint, Registered).address == OTHER
    assert not last(world, endpoint, Registered).resumed
