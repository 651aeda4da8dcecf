"""Each way to tamper with a log, and what the verifier says of it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from witness_logs import NOON, SECOND, Clock, abandon, commit_of, judge, kinds, open_ledger, records_of

from gatekeeperd.core.actions import Commit, Record, Stream
from gatekeeperd.witness.canonical import canonical
from gatekeeperd.witness.chain import Head
from gatekeeperd.witness.files import ANCHOR_FILE, HEAD_FILE

DAY = 86_400
RAS_DAY_2 = "h323_witness/h323_ras_20260329.jsonl"


def _grow(ledger, clock, first, count):
    for ticket in range(first, first + count):
        stream = Stream.GATEWAY if ticket % 5 == 3 else Stream.HA if ticket % 7 == 4 else Stream.RAS
        ledger.commit([commit_of(ticket, stream)])
        clock.advance(0.3)
        ledger.checkpoint_if_due(clock())


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    """Three days, three streams, a crash in between, retention at work (the first day is gone), closed in order."""
    directory = tmp_path_factory.mktemp("logs") / "sealed"
    clock = Clock(NOON - DAY * SECOND)
    ledger = open_ledger(directory, clock, retention_days=1)
    _grow(ledger, clock, 0, 12)
    clock.advance(DAY)
    _grow(ledger, clock, 100, 12)
    abandon(ledger)
    clock.advance(DAY)
    ledger = open_ledger(directory, clock, retention_days=1)
    _grow(ledger, clock, 200, 12)
    ledger.close()
    return directory


@pytest.fixture
def log(sealed, tmp_path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "log"))


def test_an_untouched_log_verifies_without_a_remark(log):
    report = judge(log)
    assert report.findings == []
    assert report.verified
    assert report.first > 1
    assert report.head == Head(records_of(log)[-1]["index"], records_of(log)[-1]["hash"])
    assert report.signed == report.head.index
    assert report.records == report.head.index - report.first + 1
    assert {path.parent.name for path in log.glob("*/*.jsonl")} == {"h323_witness", "gateway", "ha"}
    assert (log / ANCHOR_FILE).exists()


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _ordinary(lines: list[bytes], after: int = 0) -> int:
    """The place of a record that is none of the log's own, two like it following."""
    ours = [b'"event":"admission"' in line for line in lines]
    return next(at for at in range(after, len(lines)) if all(ours[at : at + 3]))


def _with_hash(record: dict) -> bytes:
    record = {name: value for name, value in record.items() if name != "hash"}
    return canonical(record | {"hash": hashlib.sha256(canonical(record)).hexdigest()}) + b"\n"


def _alter(lines):
    lines[at] = lines[at := _ordinary(lines)].replace(b'"granted":true', b'"granted":false')


def _alter_and_rehash(lines):
    at = _ordinary(lines)
    lines[at] = _with_hash(json.loads(lines[at]) | {"payload": {"granted": False}})


def _remove(lines):
    del lines[_ordinary(lines)]


def _swap(lines):
    at = _ordinary(lines)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]


def _move_down(lines):
    lines.insert(len(lines) - 1, lines.pop(_ordinary(lines)))


def _move_up(lines):
    lines.insert(1, lines.pop(len(lines) - 2))


def _duplicate(lines):
    at = _ordinary(lines)
    lines.insert(at + 1, lines[at])


def _duplicate_far(lines):
    lines.append(lines[_ordinary(lines)])


def _duplicate_ahead(lines):
    lines.insert(1, lines[len(lines) - 2])


def _insert_after(lines):
    """A forged record that follows from its predecessor; its index is the next one's."""
    at = _ordinary(lines)
    forged = json.loads(lines[at + 1]) | {"payload": {"forged": True}}
    lines.insert(at + 1, _with_hash(forged))


def _insert_before(lines):
    """The same, but behind the true record."""
    at = _ordinary(lines)
    forged = json.loads(lines[at + 1]) | {"payload": {"forged": True}}
    lines.insert(at + 2, _with_hash(forged))


def _insert_unlinked(lines):
    at = _ordinary(lines)
    lines.insert(at + 1, _with_hash(json.loads(lines[at + 1]) | {"prev_hash": "11" * 32}))


def _insert_old_index(lines):
    at = _ordinary(lines)
    lines.append(_with_hash(json.loads(lines[at]) | {"payload": {"forged": True}}))


def _insert_far_index(lines):
    lines.insert(_ordinary(lines), _with_hash(json.loads(lines[-1]) | {"index": 10**12}))


def _insert_nonsense(lines):
    lines.insert(_ordinary(lines), b"not a record\n")


def _insert_empty(lines):
    lines.insert(_ordinary(lines), b"\n")


def _spoil_checkpoint(lines):
    at = next(at for at, line in enumerate(lines) if b'"event":"checkpoint"' in line)
    record = json.loads(lines[at])
    record["payload"]["signature"] = "00" * 64
    lines[at] = _with_hash(record)


TAMPERING: list[tuple[Callable[[list[bytes]], None], set[str]]] = [
    (_alter, {"altered"}),
    (_alter_and_rehash, {"altered"}),
    (_remove, {"removed"}),
    (_swap, {"reordered"}),
    (_move_down, {"reordered"}),
    (_move_up, {"reordered"}),
    (_duplicate, {"duplicated"}),
    (_duplicate_far, {"duplicated"}),
    (_duplicate_ahead, {"duplicated"}),
    (_insert_after, {"inserted"}),
    (_insert_before, {"inserted"}),
    (_insert_unlinked, {"inserted"}),
    (_insert_old_index, {"inserted"}),
    (_insert_far_index, {"inserted"}),
    (_insert_nonsense, {"inserted"}),
    (_insert_empty, {"inserted"}),
    (_spoil_checkpoint, {"bad_signature", "altered"}),
]


@pytest.mark.parametrize(("tamper", "expected"), TAMPERING, ids=[tamper.__name__.strip("_") for tamper, _ in TAMPERING])
def test_each_tampering_is_named(log, tamper, expected):
    path = log / RAS_DAY_2
    lines = _lines(path)
    before = list(lines)
    tamper(lines)
    assert lines != before
    path.write_bytes(b"".join(lines))
    report = judge(log)
    assert report.tampered
    assert kinds(report) == expected
    assert len(report.findings) == len(expected)
    assert all(finding.file == RAS_DAY_2 for finding in report.findings)
    if expected == {"inserted"}:
        (forged,) = (number for number, line in enumerate(lines, start=1) if line not in before)
        assert report.findings[0].line == forged


def test_a_finding_tells_index_file_and_line(log):
    path = log / RAS_DAY_2
    lines = _lines(path)
    at = _ordinary(lines)
    index = json.loads(lines[at])["index"]
    _alter(lines)
    path.write_bytes(b"".join(lines))
    (finding,) = judge(log).findings
    assert (finding.index, finding.file, finding.line) == (index, RAS_DAY_2, at + 1)


def test_a_removed_block_is_told_with_both_ends(tmp_path):
    ledger = open_ledger(tmp_path / "log")
    ledger.commit([commit_of(ticket) for ticket in range(20)])
    ledger.close()
    (path,) = (tmp_path / "log").glob("h323_witness/*.jsonl")
    lines = _lines(path)
    del lines[9:14]
    path.write_bytes(b"".join(lines))
    (finding,) = judge(tmp_path / "log").findings
    assert (finding.kind.value, finding.index, finding.line) == ("removed", 10, 10)
    assert "records 10 to 14 are missing" in finding.detail


def _rewrite_from(log: Path, victim: int, change: Callable[[dict], None]) -> None:
    """Alter a record and make every later hash anew, through all files, as an attacker without the key can."""
    places = {}
    for path in log.glob("*/*.jsonl"):
        for number, line in enumerate(_lines(path)):
            record = json.loads(line)
            places[record["index"]] = (path, number, record)
    contents = {path: _lines(path) for path in log.glob("*/*.jsonl")}
    previous = None
    for index in sorted(places):
        path, number, record = places[index]
        if index == victim:
            change(record)
        if index > victim:
            record["prev_hash"] = previous
            if record["event"] == "checkpoint":
                record["payload"]["head_hash"] = previous
        if index >= victim:
            contents[path][number] = _with_hash(record)
        previous = json.loads(contents[path][number])["hash"]
    for path, lines in contents.items():
        path.write_bytes(b"".join(lines))


def test_a_chain_made_anew_from_an_altered_record_on_fails_at_the_signatures(log):
    victim = next(record["index"] for record in records_of(log) if record["event"] == "admission")
    _rewrite_from(log, victim, lambda record: record["payload"].update(granted=False))
    report = judge(log)
    assert report.tampered
    assert kinds(report) == {"bad_signature", "head_mismatch"}
    told = report.findings[0]
    assert told.kind.value == "bad_signature"
    assert told.index == next(r["index"] for r in records_of(log) if r["event"] == "checkpoint" and r["index"] > victim)


def test_removing_the_signed_head_does_not_hide_a_chain_made_anew(log):
    checkpoint = [record for record in records_of(log) if record["event"] == "checkpoint"][-2]
    _rewrite_from(log, checkpoint["index"] + 1, lambda record: record["payload"].update(granted=False))
    (log / HEAD_FILE).unlink()
    assert kinds(judge(log)) >= {"bad_signature", "head_missing"}


def test_an_epoch_that_goes_back_is_told(log):
    victim = records_of(log)[-4]["index"]
    _rewrite_from(log, victim, lambda record: record.update(epoch=record["epoch"] - 1))
    assert "epoch_back" in kinds(judge(log))


def test_a_record_moved_to_another_day_is_told(log):
    first, second = log / RAS_DAY_2, log / "h323_witness/h323_ras_20260328.jsonl"
    lines = _lines(first)
    second.write_bytes(second.read_bytes() + lines.pop(0))
    first.write_bytes(b"".join(lines))
    assert kinds(judge(log)) == {"misplaced"}


def test_a_log_signed_by_another_key_fails(log):
    report = judge(log, key=SigningKey.generate())
    assert kinds(report) == {"other_key"}
    assert not report.verified
    assert report.signed == 0


# --- the end and the start of a log --------------------------------------------------------------------------------------


def test_a_log_that_was_cut_off_is_told_from_its_signed_head(log):
    path = log / RAS_DAY_2
    path.write_bytes(b"".join(_lines(path)[:-1]))
    report = judge(log)
    assert report.tampered
    assert kinds(report) == {"cut_off", "unsealed"}


@pytest.mark.parametrize("octets", [1, 7])
def test_a_sealed_log_whose_last_line_was_shortened_is_not_taken_for_a_crash(log, octets):
    path = log / RAS_DAY_2
    path.write_bytes(path.read_bytes()[:-octets])
    assert "altered" in kinds(judge(log))


def test_a_missing_file_is_told(log):
    (log / "h323_witness/h323_ras_20260328.jsonl").unlink()
    assert "removed" in kinds(judge(log))


def test_an_emptied_log_is_cut_off(log):
    for path in log.glob("*/*.jsonl"):
        path.unlink()
    assert kinds(judge(log)) == {"cut_off", "unsealed"}


def test_days_removed_at_the_start_without_a_signed_anchor_are_told(log):
    (log / ANCHOR_FILE).unlink()
    assert "removed" in kinds(judge(log))


def test_only_a_head_held_elsewhere_shows_a_cut_that_took_the_signed_head_along(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path / "live", clock)
    _grow(ledger, clock, 0, 3)
    clock.advance(3)
    ledger.checkpoint_if_due(clock())
    cut = Path(shutil.copytree(tmp_path / "live", tmp_path / "cut"))
    _grow(ledger, clock, 3, 3)
    elsewhere = ledger.head
    ledger.close()
    assert judge(cut).verified
    report = judge(cut, witnessed=elsewhere)
    assert "cut_off" in kinds(report)
    assert judge(tmp_path / "live", witnessed=elsewhere).verified
    assert "head_mismatch" in kinds(judge(tmp_path / "live", witnessed=Head(elsewhere.index, "0" * 64)))


def test_a_head_from_before_the_kept_days_can_not_be_compared(log):
    report = judge(log, witnessed=Head(1, "0" * 64))
    assert report.verified
    assert kinds(report) == {"unchecked_head"}


@pytest.mark.parametrize("name", [HEAD_FILE, ANCHOR_FILE])
def test_signed_files_that_do_not_verify_are_told(log, name):
    (log / name).write_text("{}\n")
    report = judge(log)
    assert "bad_signature" in kinds(report)
    assert report.findings[0].file == name


# --- what is no tampering ------------------------------------------------------------------------------------------------


def test_a_running_log_has_an_unsigned_tail_and_no_seal(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path / "log", clock)
    ledger.commit([commit_of(1)])
    report = judge(tmp_path / "log")
    assert report.verified
    assert kinds(report) == {"unsealed", "unsigned_tail"}
    ledger.close()


def test_a_torn_last_line_is_told_apart_from_tampering(tmp_path):
    ledger = open_ledger(tmp_path / "log")
    ledger.commit([commit_of(1)])
    ledger.commit([commit_of(2)])
    abandon(ledger)
    (path,) = (tmp_path / "log").glob("h323_witness/*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    report = judge(tmp_path / "log")
    assert report.verified
    assert kinds(report) == {"unsealed", "unsigned_tail", "torn"}


def test_a_late_checkpoint_is_told(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path / "log", clock)
    ledger.commit([commit_of(1)])
    clock.advance(5.001)
    ledger.close()
    report = judge(tmp_path / "log")
    assert not report.verified
    assert not report.tampered
    assert kinds(report) == {"late_checkpoint"}


def test_too_many_records_without_a_checkpoint_are_told(tmp_path):
    ledger = open_ledger(tmp_path / "log", checkpoint_records=5000)
    ledger.commit([commit_of(ticket) for ticket in range(1001)])
    ledger.close()
    assert kinds(judge(tmp_path / "log")) == {"late_checkpoint"}


def test_a_signed_head_that_was_not_renewed_is_told(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path / "log", clock)
    old = (tmp_path / "log" / HEAD_FILE).read_bytes()
    _grow(ledger, clock, 0, 40)
    ledger.close()
    (tmp_path / "log" / HEAD_FILE).write_bytes(old)
    assert kinds(judge(tmp_path / "log")) == {"stale_head", "unsigned_tail"}


def test_a_clock_that_went_back_is_a_notice(tmp_path):
    clock = Clock()
    ledger = open_ledger(tmp_path / "log", clock)
    ledger.commit([commit_of(1)])
    clock.advance(-3600)
    ledger.commit([commit_of(2)])
    ledger.close()
    report = judge(tmp_path / "log")
    assert report.verified
    assert kinds(report) == {"clock_back"}


def test_findings_are_bounded(tmp_path):
    ledger = open_ledger(tmp_path / "log")
    ledger.commit([commit_of(ticket) for ticket in range(1100)])
    ledger.close()
    (path,) = (tmp_path / "log").glob("h323_witness/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"granted":true', b'"granted":null'))
    report = judge(tmp_path / "log")
    assert len(report.findings) == 1000
    assert report.unlisted >= 100
    assert not report.verified


@pytest.fixture(scope="module")
def flippable(sealed, tmp_path_factory) -> Path:
    return Path(shutil.copytree(sealed, tmp_path_factory.mktemp("flips") / "log"))


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_any_single_octet_that_changed_is_caught(flippable, data):
    """Every file counts but node.pub (the key is trusted from elsewhere) and torn/ (what the log does not claim)."""
    names = sorted([*flippable.glob("*/*.jsonl"), flippable / HEAD_FILE, flippable / ANCHOR_FILE])
    path = data.draw(st.sampled_from(names))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    mask = data.draw(st.integers(1, 255))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
    try:
        report = judge(flippable)
    finally:
        path.write_bytes(whole)
    assert report.tampered


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_damage_at_all_breaks_the_verifier(flippable, data):
    path = data.draw(st.sampled_from(sorted([*flippable.glob("*/*.jsonl"), flippable / HEAD_FILE, flippable / ANCHOR_FILE])))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=300)) + whole[end:])
    try:
        judge(flippable)
    finally:
        path.write_bytes(whole)


def test_a_record_longer_than_any_of_ours_is_one_broken_line(log):
    path = log / RAS_DAY_2
    lines = _lines(path)
    lines.insert(_ordinary(lines), b"x" * 600_000 + b"\n")
    path.write_bytes(b"".join(lines))
    assert judge(log).tampered


def test_records_of_one_moment_verify_in_any_mix_of_streams(tmp_path):
    ledger = open_ledger(tmp_path / "log")
    records = tuple(Record("e", "", {}, stream) for stream in (Stream.HA, Stream.RAS, Stream.GATEWAY) * 3)
    ledger.commit([Commit(1, (), records)])
    ledger.close()
    assert judge(tmp_path / "log").findings == []


def test_emptied_files_without_a_head_are_no_fresh_log(log):
    for file in log.rglob("*.jsonl"):
        file.write_bytes(b"")
    (log / HEAD_FILE).unlink()
    assert not judge(log).verified
