"""A real process, killed at random moments or told by the kernel that there is no room."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from witness_logs import judge, open_ledger, records_of, tickets_of

HERE = Path(__file__).parent

#: Commits groups of growing tickets over all streams for as long as it lives; prints a ticket when it is acknowledged.
WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from witness_logs import commit_of, open_ledger
from gatekeeperd.core.actions import Stream
ledger = open_ledger(Path(sys.argv[1]), time.time_ns)
ticket = int(sys.argv[3])
while True:
    group = [commit_of(ticket + n, list(Stream)[(ticket + n) % 3], str(ticket + n).encode()) for n in range(5)]
    ledger.commit(group)
    ledger.checkpoint_if_due(time.time_ns())
    ticket += 5
    print(ticket, flush=True)
"""

#: Fills its files up to a limit that the kernel enforces, then gets room and repeats what had failed.
FILLER = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gatekeeperd.errors import StoreError, WitnessError
from witness_logs import Clock, commit_of, open_ledger
ledger = open_ledger(Path(sys.argv[1]))
limit, size, value = int(sys.argv[3]), int(sys.argv[4]), b"x" * int(sys.argv[5])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
refused, failures, ticket = [], set(), 0
while len(refused) < 3:
    group = [commit_of(ticket + n, value=value) for n in range(size)]
    try:
        ledger.commit(group)
    except (StoreError, WitnessError) as error:
        failures.add(type(error).__name__)
        refused.append(ticket)
        continue
    ticket += size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.commit(group)
ticket += size
ledger.close()
print(json.dumps({"acknowledged": ticket, "failures": sorted(failures)}))
"""


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _let_write(directory: Path, first: int, groups: int) -> int:
    """Run the writer, kill it somewhere after ``groups`` groups; return the number of tickets it was told are durable."""
    with subprocess.Popen(_python(WRITER, directory, HERE, first), stdout=subprocess.PIPE, text=True) as process:
        told = [process.stdout.readline() for _ in range(groups)]
        # It writes on while we get here: the kill meets it anywhere in its next groups.
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
    return int([line for line in told if line.endswith("\n")][-1])


def test_what_a_killed_process_acknowledged_is_there_once_and_the_chain_verifies(tmp_path):
    directory = tmp_path / "state"
    chance = random.Random(20260328)
    tickets = []
    for _ in range(5):
        acknowledged = _let_write(directory, len(tickets), chance.randrange(1, 40))
        ledger = open_ledger(directory, time.time_ns)
        state = {int(value) for value in ledger.load()["call"].values()}
        ledger.close()
        tickets = tickets_of(directory)
        assert tickets == list(range(len(tickets)))
        assert state == set(tickets)
        assert len(tickets) >= acknowledged > 0
        report = judge(directory)
        assert not report.tampered
        assert report.head.index == len(records_of(directory))


@pytest.mark.parametrize(
    ("limit", "group", "value", "failure"),
    [
        (200_000, 5, 8000, "StoreError"),  # large values: SQLite's write-ahead file is the first to meet the limit
        (5_000_000, 200, 1, "WitnessError"),  # small ones: that file starts over at 4 MB, and the day's file grows on
    ],
)
def test_a_file_that_the_kernel_lets_grow_no_more_costs_nothing_once_there_is_room(tmp_path, limit, group, value, failure):
    directory = tmp_path / "state"
    command = _python(FILLER, directory, HERE, limit, group, value)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    result = json.loads(done.stdout)
    assert result["failures"] == [failure]
    assert tickets_of(directory) == list(range(result["acknowledged"]))
    assert judge(directory).findings == []
    ledger = open_ledger(directory)
    assert len(ledger.load()["call"]) == result["acknowledged"]
    ledger.close()


def test_a_start_after_a_kill_says_so(tmp_path):
    directory = tmp_path / "state"
    _let_write(directory, 0, 1)
    open_ledger(directory, time.time_ns).close()
    resumed = [record for record in records_of(directory) if record["event"] == "resumed"]
    assert [record["payload"]["clean"] for record in resumed] == [False, False]
    assert [record["epoch"] for record in resumed] == [1, 2]
