"""The ledger: what it acknowledged is there, once, whatever failed in between."""

import errno
import json
import os
import stat
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from witness_logs import (
    KEY,
    NOON,
    SECOND,
    Clock,
    abandon,
    commit_of,
    judge,
    kinds,
    open_ledger,
    records_of,
    tickets_of,
)

from gatekeeperd.core.actions import Change, Commit, Record, Stream
from gatekeeperd.errors import CanonicalError, StoreError, WitnessError
from gatekeeperd.store.ledger import Ledger
from gatekeeperd.store.sqlite import STORE_FILE
from gatekeeperd.witness import files
from gatekeeperd.witness.files import ANCHOR_FILE, HEAD_FILE, KEY_FILE

DAY = 86_400


def _at(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000


def _names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*.jsonl")}


# --- one run -------------------------------------------------------------------------------------------------------------


def test_state_and_records_of_a_commit_survive_a_restart(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.commit([commit_of(1), commit_of(2)])
    ledger.commit([commit_of(1, value=None)])
    ledger.close()
    ledger = open_ledger(tmp_path)
    assert ledger.load() == {"call": {"call-2": b"{}"}}
    assert tickets_of(tmp_path) == [1, 2, 1]
    ledger.close()


def test_records_have_the_fields_of_the_interface(tmp_path):
    clock = Clock(_at("2026-03-28T23:59:59.999999"))
    ledger = open_ledger(tmp_path, clock)
    ledger.commit([commit_of(5)])
    ledger.close()
    record = next(record for record in records_of(tmp_path) if record["event"] == "admission")
    assert set(record) == {"index", "time", "node", "epoch", "event", "trace_id", "payload", "prev_hash", "hash"}
    assert record["time"] == "2026-03-28T23:59:59.999999Z"
    assert (record["node"], record["epoch"], record["trace_id"]) == ("node-a", 1, f"{5:032x}")


def test_one_index_and_one_chain_run_through_all_three_streams(tmp_path):
    ledger = open_ledger(tmp_path)
    for ticket, stream in enumerate((Stream.HA, Stream.GATEWAY, Stream.RAS, Stream.HA), start=1):
        ledger.commit([commit_of(ticket, stream)])
    ledger.close()
    records = records_of(tmp_path)
    assert [record["index"] for record in records] == list(range(1, len(records) + 1))
    for before, after in pairwise(records):
        assert after["prev_hash"] == before["hash"]
    assert _names(tmp_path) == {
        "h323_witness/h323_ras_20260328.jsonl",
        "gateway/gateway_20260328.jsonl",
        "ha/failover_20260328.jsonl",
    }


def test_a_start_is_recorded_and_tells_whether_the_run_before_ended_in_order(tmp_path):
    open_ledger(tmp_path).close()
    abandon(open_ledger(tmp_path))
    open_ledger(tmp_path).close()
    told = [record["payload"] for record in records_of(tmp_path) if record["event"] == "resumed"]
    assert told == [
        {"clean": False, "previous_epoch": 0},
        {"clean": True, "previous_epoch": 1},
        {"clean": False, "previous_epoch": 2},
    ]
    assert [record["event"] for record in records_of(tmp_path)][-2:] == ["seal", "checkpoint"]
    assert judge(tmp_path).findings == []


def test_the_head_is_the_last_durable_record(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.commit([commit_of(1)])
    last = records_of(tmp_path)[-1]
    assert (ledger.head.index, ledger.head.hash) == (last["index"], last["hash"])
    ledger.commit([Commit(2, (Change("call", "x", b"1"),))])
    assert ledger.head.index == last["index"]
    ledger.commit([])
    assert ledger.head.index == last["index"]
    ledger.close()


def test_epochs_grow(tmp_path):
    epochs = []
    for _ in range(3):
        ledger = open_ledger(tmp_path)
        epochs.append(ledger.epoch)
        ledger.close()
    assert epochs == [1, 2, 3]


def test_nobody_else_can_read_the_log(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    ledger = open_ledger(directory)
    ledger.commit([commit_of(1, Stream.GATEWAY)])
    ledger.checkpoint_if_due(NOON)
    for path in directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    ledger.close()


def test_two_daemons_can_not_open_one_ledger(tmp_path):
    ledger = open_ledger(tmp_path)
    with pytest.raises(StoreError, match="in use by another daemon"):
        open_ledger(tmp_path)
    ledger.commit([commit_of(1)])
    ledger.close()
    assert judge(tmp_path).findings == []


def test_a_record_that_can_not_be_written_leaves_everything_as_it_was(tmp_path):
    ledger = open_ledger(tmp_path)
    head = ledger.head
    bad = Commit(2, (Change("call", "bad", b"1"),), (Record("e", "", {"ratio": 0.5}),))
    with pytest.raises(CanonicalError):
        ledger.commit([commit_of(1), bad])
    assert (ledger.head, ledger.load()) == (head, {})
    ledger.commit([commit_of(1)])
    ledger.close()
    assert tickets_of(tmp_path) == [1]
    assert judge(tmp_path).findings == []


# --- checkpoints ---------------------------------------------------------------------------------------------------------


def test_a_waiting_record_is_signed_in_time_and_an_idle_log_does_not_grow(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock)
    ledger.commit([commit_of(1)])
    for _ in range(60):
        clock.advance(1)
        ledger.checkpoint_if_due(clock())
    assert [record["event"] for record in records_of(tmp_path)][-2:] == ["admission", "checkpoint"]
    assert kinds(judge(tmp_path)) == {"unsealed"}
    ledger.close()


def test_commits_alone_sign_in_time_as_well(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock)
    for ticket in range(40):
        ledger.commit([commit_of(ticket)])
        clock.advance(0.4)
    ledger.close()
    assert judge(tmp_path).findings == []
    assert sum(record["event"] == "checkpoint" for record in records_of(tmp_path)) > 5


@pytest.mark.parametrize("batch", [1, 700, 2500])
def test_no_more_than_a_thousand_records_share_a_checkpoint(tmp_path, batch):
    ledger = open_ledger(tmp_path)
    for start in range(0, 2500, batch):
        ledger.commit([commit_of(ticket) for ticket in range(start, min(start + batch, 2500))])
    ledger.close()
    marks = [record["index"] for record in records_of(tmp_path) if record["event"] == "checkpoint"]
    assert max(after - before for before, after in zip([0, *marks], marks, strict=False)) <= 1000
    assert judge(tmp_path).findings == []


def test_a_clock_that_went_back_does_not_hold_up_checkpoints(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock)
    ledger.commit([commit_of(1)])
    clock.advance(-3600)
    ledger.checkpoint_if_due(clock())
    assert records_of(tmp_path)[-1]["event"] == "checkpoint"
    ledger.close()


def test_the_signed_head_follows_the_checkpoints(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock)
    ledger.commit([commit_of(1)])
    clock.advance(3)
    ledger.checkpoint_if_due(clock())
    head = json.loads((tmp_path / HEAD_FILE).read_bytes())
    assert (head["index"], head["hash"]) == (ledger.head.index, ledger.head.hash)
    ledger.close()
    head = json.loads((tmp_path / HEAD_FILE).read_bytes())
    assert (head["index"], head["hash"]) == (ledger.head.index, ledger.head.hash)
    assert (tmp_path / KEY_FILE).read_text() == f"ed25519:{bytes(KEY.verify_key).hex()}\n"


# --- days ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_files_change_at_utc_midnight_whatever_the_local_zone_and_its_summer_time(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    # 2026-03-29 01:00 UTC is when Berlin's clocks go forward; the hour before and after are in one UTC day.
    clock = Clock(_at("2026-03-28T23:59:58"))
    ledger = open_ledger(tmp_path, clock)
    for ticket, moment in enumerate(["2026-03-28T23:59:59", "2026-03-29T00:00:00", "2026-03-29T00:59:59", "2026-03-29T01:00:01"]):
        clock.now = _at(moment)
        ledger.commit([commit_of(ticket)])
    ledger.close()
    assert _names(tmp_path) == {"h323_witness/h323_ras_20260328.jsonl", "h323_witness/h323_ras_20260329.jsonl"}
    first = (tmp_path / "h323_witness/h323_ras_20260328.jsonl").read_text()
    assert '"ticket":0}' in first
    assert '"ticket":1}' not in first
    assert not judge(tmp_path).tampered


def test_a_clock_that_goes_back_over_midnight_goes_on_in_the_newest_day(tmp_path):
    clock = Clock(_at("2026-03-29T00:00:01"))
    ledger = open_ledger(tmp_path, clock)
    clock.now = _at("2026-03-28T23:59:59")
    ledger.commit([commit_of(1), commit_of(2, Stream.HA)])
    abandon(ledger)
    ledger = open_ledger(tmp_path, clock)
    ledger.close()
    assert _names(tmp_path) == {"h323_witness/h323_ras_20260329.jsonl", "ha/failover_20260329.jsonl"}
    assert judge(tmp_path).verified


def _daily(directory: Path, clock: Clock, days: int, **options) -> None:
    ledger = open_ledger(directory, clock, **options)
    for ticket in range(days):
        ledger.commit([commit_of(ticket), commit_of(ticket, (Stream.RAS, Stream.GATEWAY, Stream.HA)[ticket % 3])])
        clock.advance(1)
        ledger.checkpoint_if_due(clock())
        clock.advance(2)
        ledger.checkpoint_if_due(clock())
        clock.advance(DAY)
    ledger.close()


def test_old_days_go_whole_and_the_kept_chain_still_verifies(tmp_path):
    clock = Clock()
    _daily(tmp_path, clock, 8, retention_days=3)
    days = {name[-14:-6] for name in _names(tmp_path)}
    assert min(days) == "20260401"
    report = judge(tmp_path)
    assert report.verified
    assert report.first > 1
    anchor = json.loads((tmp_path / ANCHOR_FILE).read_bytes())
    assert anchor["index"] + 1 == records_of(tmp_path)[0]["index"]
    assert anchor["hash"] == records_of(tmp_path)[0]["prev_hash"]
    assert any(record["event"] == "retention" for record in records_of(tmp_path))


def test_nothing_goes_before_its_time(tmp_path):
    _daily(tmp_path, Clock(), 4, retention_days=90)
    assert len({name[-14:-6] for name in _names(tmp_path)}) >= 4
    assert not (tmp_path / ANCHOR_FILE).exists()


def test_a_log_that_slept_for_longer_than_the_retention_keeps_its_chain(tmp_path):
    clock = Clock()
    _daily(tmp_path, clock, 3, retention_days=5)
    clock.advance(100 * DAY)
    ledger = open_ledger(tmp_path, clock, retention_days=5)
    ledger.commit([commit_of(77)])
    ledger.close()
    assert len(_names(tmp_path)) == 1
    assert judge(tmp_path).verified


def test_an_idle_daemon_removes_old_days_too(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock, retention_days=2)
    ledger.commit([commit_of(1)])
    ledger.checkpoint_if_due(clock())
    clock.advance(10 * DAY)
    ledger.checkpoint_if_due(clock())
    ledger.close()
    assert _names(tmp_path) == {"h323_witness/h323_ras_20260407.jsonl"}
    assert not judge(tmp_path).tampered


def test_retention_does_not_sign_away_what_somebody_else_removed(tmp_path):
    clock = Clock()
    _daily(tmp_path, clock, 4, retention_days=90)
    (tmp_path / "h323_witness/h323_ras_20260329.jsonl").unlink()
    (tmp_path / "gateway/gateway_20260329.jsonl").unlink()
    ledger = open_ledger(tmp_path, clock, retention_days=3)
    ledger.close()
    assert not (tmp_path / ANCHOR_FILE).exists()
    assert any(record["event"] == "retention_refused" for record in records_of(tmp_path))
    assert "removed" in kinds(judge(tmp_path))


@pytest.mark.parametrize("survivor", ["gateway/gateway_20260329.jsonl", "h323_witness/h323_ras_20260328.jsonl"])
def test_a_removal_that_a_crash_cut_short_is_finished(tmp_path, survivor):
    clock = Clock()
    _daily(tmp_path, clock, 4, retention_days=90)
    content = (tmp_path / survivor).read_bytes()
    clock.now = NOON + 5 * DAY * SECOND
    open_ledger(tmp_path, clock, retention_days=3).close()
    assert not (tmp_path / survivor).exists()
    (tmp_path / survivor).write_bytes(content)
    assert judge(tmp_path).verified
    open_ledger(tmp_path, clock, retention_days=3).close()
    assert not (tmp_path / survivor).exists()
    assert judge(tmp_path).verified


# --- failures ------------------------------------------------------------------------------------------------------------


def _failing(function, times, error=errno.ENOSPC, *, half=False):
    """Fail the first calls of an os function; optionally after half of the octets were written."""
    left = [times]

    def call(*arguments):
        if left[0]:
            left[0] -= 1
            if half:
                descriptor, octets, offset = arguments
                function(descriptor, octets[: len(octets) // 2], offset)
            raise OSError(error, os.strerror(error))
        return function(*arguments)

    return call


@pytest.mark.parametrize("function", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_that_the_files_refused_can_be_repeated_and_is_not_doubled(tmp_path, monkeypatch, function, times):
    ledger = open_ledger(tmp_path)
    head = ledger.head
    batch = [commit_of(1), commit_of(2, Stream.GATEWAY), commit_of(2, Stream.GATEWAY)]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, function, _failing(getattr(os, function), times, half=function == "pwrite"))
        for _ in range(times):
            with pytest.raises(WitnessError, match="No space left"):
                ledger.commit(batch)
            assert ledger.head == head
        ledger.commit([*batch, commit_of(3)])
    ledger.commit([commit_of(1)])  # not a repetition any more
    ledger.close()
    assert tickets_of(tmp_path) == [1, 2, 2, 3, 1]
    assert judge(tmp_path).findings == []


def test_a_repeated_commit_is_known_even_after_a_checkpoint_finished_it(tmp_path, monkeypatch):
    clock = Clock()
    ledger = open_ledger(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fdatasync", _failing(os.fdatasync, 1))
        with pytest.raises(WitnessError):
            ledger.commit([commit_of(1)])
    ledger.checkpoint_if_due(clock())
    bad = Commit(9, (), (Record("e", "", {"ratio": 0.5}),))
    with pytest.raises(CanonicalError):
        ledger.commit([commit_of(1), bad])
    ledger.commit([commit_of(1)])
    ledger.close()
    assert tickets_of(tmp_path) == [1]


def test_what_the_files_refused_together_can_be_repeated_one_by_one(tmp_path, monkeypatch):
    ledger = open_ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "pwrite", _failing(os.pwrite, 1))
        with pytest.raises(WitnessError):
            ledger.commit([commit_of(1), commit_of(2)])
    for ticket in (1, 2, 3):
        ledger.commit([commit_of(ticket)])
    ledger.close()
    assert tickets_of(tmp_path) == [1, 2, 3]


def test_a_commit_that_the_store_refused_can_be_repeated(tmp_path):
    ledger = open_ledger(tmp_path)
    head = ledger.head
    connection = ledger._store._connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    batch = [commit_of(ticket, value=b"x" * 5000) for ticket in range(50)]
    with pytest.raises(StoreError):
        ledger.commit(batch)
    assert ledger.head == head
    assert tickets_of(tmp_path) == []
    connection.execute("PRAGMA max_page_count = 1000000")
    ledger.commit(batch)
    ledger.close()
    assert tickets_of(tmp_path) == list(range(50))
    assert judge(tmp_path).findings == []


def test_a_close_that_fails_still_lets_go(tmp_path, monkeypatch):
    ledger = open_ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "pwrite", _failing(os.pwrite, 1))
        with pytest.raises(WitnessError):
            ledger.close()
    open_ledger(tmp_path).close()
    assert judge(tmp_path).verified


# --- what a start finds --------------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_of_the_last_batch_is_missing_or_torn_is_completed(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("torn") / "state"
    ledger = open_ledger(directory)
    ledger.commit([commit_of(1), commit_of(1, Stream.HA)])
    sizes = {name: (directory / name).stat().st_size for name in _names(directory)}
    ledger.commit([commit_of(2), commit_of(3, Stream.HA), commit_of(4)])
    wanted = tickets_of(directory)
    abandon(ledger)
    torn = []
    for name in sorted(_names(directory)):
        path = directory / name
        whole = path.read_bytes()
        cut = data.draw(st.integers(sizes[name], len(whole)))
        filling = data.draw(st.sampled_from([b"", b"\0"])) * (len(whole) - cut)  # some file systems leave zeros
        path.write_bytes(whole[:cut] + filling)
        unfinished = cut - (whole.rfind(b"\n", 0, cut) + 1) + len(filling)
        torn += [unfinished] if unfinished else []
    open_ledger(directory).close()
    assert tickets_of(directory) == wanted
    assert judge(directory).verified
    told = [record["payload"] for record in records_of(directory) if record["event"] == "torn"]
    assert sorted(each["octets"] for each in told) == sorted(torn)
    for each in told:
        assert (directory / each["kept_as"]).stat().st_size == each["octets"]


def test_a_crash_before_the_first_file_was_made_is_mended(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "pwrite", _failing(os.pwrite, 9))
        patch.setattr(files.WitnessFiles, "replace", lambda *_: None)
        with pytest.raises(WitnessError):
            open_ledger(tmp_path)
    open_ledger(tmp_path).close()
    assert [record["event"] for record in records_of(tmp_path)][:2] == ["resumed", "checkpoint"]
    assert judge(tmp_path).verified


def test_files_ahead_of_the_store_are_refused_with_what_to_do(tmp_path):
    ledger = open_ledger(tmp_path / "live")
    ledger.commit([commit_of(1)])
    ledger.close()
    old = (tmp_path / "live" / STORE_FILE).read_bytes()
    ledger = open_ledger(tmp_path / "live")
    ledger.commit([commit_of(2)])
    ledger.close()
    (tmp_path / "live" / STORE_FILE).write_bytes(old)
    with pytest.raises(WitnessError, match="ahead of the store: put back the newest store"):
        open_ledger(tmp_path / "live")
    (tmp_path / "live" / STORE_FILE).unlink()
    with pytest.raises(WitnessError, match="ahead of the store"):
        open_ledger(tmp_path / "live")


@pytest.mark.parametrize("size", [None, 0, 50])
def test_files_that_lack_what_was_durable_are_refused_with_what_to_do(tmp_path, size):
    ledger = open_ledger(tmp_path)
    ledger.commit([commit_of(1)])
    ledger.close()
    (path,) = tmp_path.glob("h323_witness/*.jsonl")
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    with pytest.raises(WitnessError, match="put it back, or move the whole directory aside"):
        open_ledger(tmp_path)


def test_another_signing_key_goes_on_with_the_chain_but_the_verifier_tells(tmp_path):
    open_ledger(tmp_path).close()
    Ledger.open(tmp_path, node="node-a", signing_key=SigningKey.generate(), clock=Clock()).close()
    assert "bad_signature" in kinds(judge(tmp_path))


# --- a crash at every single step ----------------------------------------------------------------------------------------


class _PowerCut(BaseException):
    """Nothing may catch it: the machine is gone."""


def _cut_at(monkeypatch, step: int) -> None:
    count = [0]

    def guarded(function, *, partial=False):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] == step:
                if partial:
                    descriptor, octets, offset = arguments
                    function(descriptor, octets[: len(octets) * 2 // 3], offset)
                raise _PowerCut
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(files.os, "pwrite", guarded(os.pwrite, partial=True))
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(files.os, name, guarded(getattr(os, name)))
    monkeypatch.setattr(files.Path, "replace", guarded(Path.replace))
    monkeypatch.setattr(files.Path, "unlink", guarded(Path.unlink))


@pytest.mark.parametrize("step", range(1, 60, 2))
def test_a_power_cut_at_any_step_loses_nothing_that_was_acknowledged(tmp_path, monkeypatch, step):
    clock = Clock()
    _daily(tmp_path, clock, 2, retention_days=2)
    acknowledged = []
    ledger = None
    with monkeypatch.context() as patch:
        _cut_at(patch, step)
        try:
            ledger = open_ledger(tmp_path, clock, retention_days=2)
            for ticket in range(1000, 1008):
                ledger.commit([commit_of(ticket, (Stream.RAS, Stream.HA)[ticket % 2]), commit_of(ticket + 500)])
                acknowledged += [ticket, ticket + 500]
                clock.advance(2.6)
                ledger.checkpoint_if_due(clock())
        except _PowerCut:
            pass
    if ledger is not None:
        abandon(ledger)
    ledger = open_ledger(tmp_path, clock, retention_days=2)
    state = ledger.load()["call"]
    ledger.close()
    kept = [ticket for ticket in tickets_of(tmp_path) if ticket >= 1000]
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)
    assert {f"call-{ticket}" for ticket in kept} == {key for key in state if int(key[5:]) >= 1000}
    assert not judge(tmp_path).tampered
