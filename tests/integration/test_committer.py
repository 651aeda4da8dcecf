"""Group commit against a ledger that fails: nothing leaves before it is durable, nothing is lost, nothing overtakes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_daemon import until

from gatekeeperd.core.actions import Action, Commit, Record, Send
from gatekeeperd.errors import CanonicalError, StoreError
from gatekeeperd.net.clock import boottime
from gatekeeperd.net.committer import Committer
from gatekeeperd.net.engine import Engine

PEER = ("192.0.2.1", 1719)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Disk:
    """A ledger's ``commit`` that fails as told, writes groups whole or not at all, and can be stopped."""

    def __init__(self, failures: list[bool] | None = None, impossible: set[int] | None = None) -> None:
        self.failures = list(failures or [])
        self.impossible = impossible or set()
        self.written: list[int] = []
        self.groups: list[int] = []
        self.may_write = threading.Event()
        self.may_write.set()

    def commit(self, commits: list[Commit]) -> None:
        assert self.may_write.wait(10)
        if self.impossible.intersection(commit.ticket for commit in commits):
            raise CanonicalError("a float")
        if self.failures and self.failures.pop(0):
            raise StoreError("disk full")
        self.groups.append(len(commits))
        self.written += [commit.ticket for commit in commits]


def commit(ticket: int) -> Commit:
    return Commit(ticket, records=(Record("test", "0" * 32, {}),))


@settings(max_examples=60, deadline=None)
@given(
    bursts=st.lists(st.integers(1, 6), max_size=8),
    failures=st.lists(st.booleans(), max_size=12),
    impossible=st.sets(st.integers(0, 30), max_size=3),
    turns=st.lists(st.integers(0, 3), max_size=8),
)
def test_every_commit_is_reported_once_in_order_and_after_it_was_written(
    bursts: list[int], failures: list[bool], impossible: set[int], turns: list[int]
) -> None:
    async def scenario() -> None:
        disk = Disk(failures, impossible)
        told: list[int] = []

        def durable(entry: Commit, _arrived: float) -> None:
            assert entry.ticket in disk.written
            told.append(entry.ticket)

        with ThreadPoolExecutor(1) as pool:
            committer = Committer(disk.commit, durable, pool, retry_s=0)
            tickets = iter(range(sum(bursts)))
            waiters: dict[int, asyncio.Future[None]] = {}
            for number, burst in enumerate(bursts):
                for _ in range(burst):
                    ticket = next(tickets)
                    waiters[ticket] = asyncio.get_running_loop().create_future()
                    committer.submit(commit(ticket), 0.0, waiters[ticket])
                for _ in range(turns[number] if number < len(turns) else 0):
                    await asyncio.sleep(0)
            await asyncio.wait_for(committer.drain(), 10)
            outcomes = {ticket: waiter.exception() for ticket, waiter in waiters.items()}
        possible = [ticket for ticket in range(sum(bursts)) if ticket not in impossible]
        assert told == disk.written == possible
        assert {ticket for ticket, error in outcomes.items() if error} == impossible.intersection(range(sum(bursts)))
        assert committer.lag_records == 0
        assert committer.impossible == len(impossible.intersection(range(sum(bursts))))

    asyncio.run(scenario())


async def test_commits_of_one_wakeup_share_one_write(executor: ThreadPoolExecutor) -> None:
    disk = Disk()
    committer = Committer(disk.commit, lambda _commit, _arrived: None, executor)
    for ticket in range(16):
        committer.submit(commit(ticket), 0.0)
    await committer.drain()
    assert disk.groups == [16]


async def test_a_failing_disk_makes_it_not_ready_until_a_write_succeeds(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk([True] * 5)
    seen: list[bool] = []
    committer = Committer(disk.commit, lambda _commit, _arrived: seen.append(committer.ready), executor, retry_s=0.05)
    assert committer.ready
    committer.submit(commit(1), 0.0)
    await until(lambda: committer.failures > 0)
    assert not committer.ready
    assert committer.lag_records == 1
    await committer.drain()
    assert committer.ready
    assert seen == [True]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1  # not one a try


async def test_a_fault_in_one_answer_leaves_the_others_of_its_group(executor: ThreadPoolExecutor) -> None:
    told: list[int] = []

    def durable(entry: Commit, _arrived: float) -> None:
        if entry.ticket == 1:
            raise ZeroDivisionError
        told.append(entry.ticket)

    committer = Committer(Disk().commit, durable, executor)
    for ticket in range(3):
        committer.submit(commit(ticket), 0.0)
    await committer.drain()
    assert told == [0, 2]


class Core:
    """A state machine whose every datagram changes something; ``b"ping"`` does not. Its timer sends an RIP."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.due: float | None = None

    def receive_datagram(self, data: bytes, source: tuple[str, int], now: float, **_how: bool) -> list[Action]:
        if data == b"ping":
            return [Send(b"pong", source, "ping")]
        self.due = now + 0.01
        self.log.append(f"decide {data.decode()}")
        return [Commit(int(data), then=(Send(b"answer " + data, source, "request"),))]

    def get_timer(self) -> float | None:
        return self.due

    def handle_timer(self, now: float) -> list[Action]:
        if self.due is None or now < self.due:
            return []
        self.due = None
        return [Send(b"RIP", PEER)]

    def committed(self, ticket: int, _now: float) -> None:
        self.log.append(f"committed {ticket}")


class Wire:
    def __init__(self, log: list[str], sent: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._sent = sent

    def send(self, message: Send) -> None:
        self._log.append(f"send {message.data.decode()}")
        self._sent()


async def test_an_answer_follows_durability_and_the_core_knows_first(executor: ThreadPoolExecutor) -> None:
    core, disk = Core(), Disk()
    engine = Engine(core, Wire(core.log), disk.commit, executor)
    disk.may_write.clear()
    engine.receive(b"1", PEER, False)
    engine.receive(b"2", PEER, False)
    engine.receive(b"ping", PEER, False)
    engine.arm()
    assert core.log == ["decide 1", "decide 2", "send pong"]
    await until(lambda: "send RIP" in core.log)  # the timer runs although the disk stands still
    disk.may_write.set()
    await engine.committer.drain()
    assert core.log[-4:] == ["committed 1", "send answer 1", "committed 2", "send answer 2"]
    assert sum(engine.latency["request"].counts) == 2
    assert sum(engine.latency["ping"].counts) == 1
    assert "" not in engine.latency  # our own requests answer nobody


async def test_no_request_is_taken_while_the_queue_is_full(executor: ThreadPoolExecutor) -> None:
    core, disk = Core(), Disk()
    engine = Engine(core, Wire(core.log), disk.commit, executor, max_pending=3)
    disk.may_write.clear()
    for ticket in range(10):
        engine.receive(b"%d" % ticket, PEER, False)
    assert [entry for entry in core.log if entry.startswith("decide")] == ["decide 0", "decide 1", "decide 2"]
    assert engine.faults == {"queue_full": 7}
    assert not engine.committer.ready
    disk.may_write.set()
    await engine.committer.drain()
    assert [entry for entry in core.log if entry.startswith("send answer")] == ["send answer 0", "send answer 1", "send answer 2"]


async def test_what_fell_due_while_the_machine_was_suspended_is_done_soon(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core()
    engine = Engine(core, Wire(core.log), Disk().commit, executor)
    monkeypatch.setattr("gatekeeperd.net.engine._LONGEST_TIMER_S", 0.01)
    core.due = boottime() + 3600
    engine.arm()
    suspended = boottime() + 7200
    monkeypatch.setattr("gatekeeperd.net.engine.boottime", lambda: suspended)
    await until(lambda: core.log == ["send RIP"])


async def test_a_fault_of_the_core_costs_neither_the_burst_nor_the_log(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    core = Core()
    engine = Engine(core, Wire(core.log), Disk().commit, executor)
    for _ in range(50):
        engine.receive(b"not a number", PEER, False)
    engine.receive(b"ping", PEER, False)
    assert core.log[-1] == "send pong"
    assert engine.faults == {"core_failed": 50}
    assert len(caplog.records) == 10


async def test_who_waits_for_a_commit_may_give_up_without_stopping_it(executor: ThreadPoolExecutor) -> None:
    core, disk = Core(), Disk()
    engine = Engine(core, Wire(core.log), disk.commit, executor)
    disk.may_write.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.commit(commit(7)), 0.01)
    disk.may_write.set()
    await engine.committer.drain()
    assert core.log == ["committed 7"]
