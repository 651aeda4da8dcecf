import sqlite3
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeperd.core.actions import Change, Stream
from gatekeeperd.errors import StoreError
from gatekeeperd.store.sqlite import LOCK_FILE, MIGRATIONS, STORE_FILE, Store
from gatekeeperd.witness.chain import GENESIS, Head
from gatekeeperd.witness.files import Tail


def test_state_head_and_tails_survive(tmp_path):
    store = Store(tmp_path)
    tails = {Stream.RAS: Tail("20260328", 120, b"line\n"), Stream.HA: Tail("20260327", 0, b"other\n")}
    store.write([Change("call", "a", b"1"), Change("endpoint", "a", b"\x00\xff")], Head(9, "ab" * 32), tails, sealed=True)
    store.close()
    store = Store(tmp_path)
    assert store.load() == {"call": {"a": b"1"}, "endpoint": {"a": b"\x00\xff"}}
    assert (store.opened.head, store.opened.tails, store.opened.sealed) == (Head(9, "ab" * 32), tails, True)
    store.close()


def test_each_open_has_a_higher_epoch_and_unseals(tmp_path):
    for epoch in (1, 2, 3):
        store = Store(tmp_path)
        assert (store.opened.previous_epoch, store.opened.epoch) == (epoch - 1, epoch)
        assert not store.opened.sealed
        store.close()


CHANGES = st.lists(
    st.builds(Change, st.sampled_from(["call", "answer"]), st.integers(0, 30).map(str), st.none() | st.binary(max_size=8)),
    max_size=60,
)


@given(st.lists(CHANGES, max_size=6))
@settings(max_examples=60, deadline=None)
def test_it_holds_what_a_dictionary_would(tmp_path_factory, batches):
    directory = tmp_path_factory.mktemp("store")
    store = Store(directory)
    wanted = {}
    for batch in batches:
        store.write(batch, GENESIS, {})
        for change in batch:
            wanted[change.kind, change.key] = change.value
    wanted = {name: value for name, value in wanted.items() if value is not None}
    for held in (store, None):
        if held is None:
            store.close()
            store = Store(directory)
        assert {(kind, key): value for kind, entries in store.load().items() for key, value in entries.items()} == wanted
    store.close()


def test_batches_of_any_size_are_written_whole(tmp_path):
    store = Store(tmp_path)
    for size in (1, 7, 8, 9, 31, 33, 127, 129, 500):
        store.write([Change(f"kind-{size}", str(n), b"x") for n in range(size)], GENESIS, {})
    assert {kind: len(entries) for kind, entries in store.load().items()} == {
        f"kind-{size}": size for size in (1, 7, 8, 9, 31, 33, 127, 129, 500)
    }
    store.write([Change("kind-500", str(n), None) for n in range(1, 500)], GENESIS, {})
    assert store.load()["kind-500"] == {"0": b"x"}
    assert len(store._places) == sum(map(len, store.load().values()))
    store.close()


def test_a_second_open_is_refused_until_the_first_closes(tmp_path):
    first = Store(tmp_path)
    with pytest.raises(StoreError, match="in use by another daemon"):
        Store(tmp_path)
    first.write([Change("call", "a", b"1")], GENESIS, {})
    first.close()
    Store(tmp_path).close()


def test_other_programs_are_kept_out_while_it_is_open(tmp_path):
    store = Store(tmp_path)
    with sqlite3.connect(tmp_path / STORE_FILE, timeout=0) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM state")
    other.close()
    store.close()


def test_nobody_else_can_read_the_files(tmp_path):
    store = Store(tmp_path)
    store.write([Change("call", "a", b"1")], GENESIS, {})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {STORE_FILE: 0o600, LOCK_FILE: 0o600, STORE_FILE + "-wal": 0o600}
    store.close()


def test_every_commit_is_synced(tmp_path):
    store = Store(tmp_path)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_schema_newer_than_this_release_is_refused_and_left_alone(tmp_path):
    Store(tmp_path, migrations=(*MIGRATIONS, "CREATE TABLE later (a)")).close()
    before = (tmp_path / STORE_FILE).read_bytes()
    with pytest.raises(StoreError, match="schema version 2, this release knows 1"):
        Store(tmp_path)
    assert (tmp_path / STORE_FILE).read_bytes() == before


def test_an_older_schema_is_brought_up_to_date_with_its_content(tmp_path):
    store = Store(tmp_path)
    store.write([Change("call", "a", b"1")], GENESIS, {})
    store.close()
    store = Store(tmp_path, migrations=(*MIGRATIONS, "CREATE TABLE later (a)"))
    assert store.load() == {"call": {"a": b"1"}}
    assert store._connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert store._connection.execute("SELECT * FROM later").fetchall() == []
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path):
    Store(tmp_path).close()
    with pytest.raises(StoreError, match="nonsense"):
        Store(tmp_path, migrations=(*MIGRATIONS, "CREATE TABLE later (a); nonsense"))
    store = Store(tmp_path)
    assert store._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)
    store.close()


@pytest.mark.parametrize(
    "damage", [lambda _octets: b"not a database at all" * 100, lambda octets: octets[:100] + b"\xa5" * (len(octets) - 100)]
)
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, damage):
    store = Store(tmp_path)
    store.write([Change("call", str(n), b"x" * 500) for n in range(200)], GENESIS, {})
    store.close()
    path = tmp_path / STORE_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"is damaged .* put back a copy"):
        Store(tmp_path)


def test_a_directory_that_is_not_there_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        Store(tmp_path / "absent")


def test_a_link_in_place_of_the_store_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("")
    (tmp_path / STORE_FILE).symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError):
        Store(tmp_path)
    (tmp_path / STORE_FILE).unlink()
    Store(tmp_path).close()  # the lock was let go


def test_a_failed_write_leaves_state_and_index_as_they_were(tmp_path):
    store = Store(tmp_path)
    store.write([Change("call", "a", b"1")], GENESIS, {})
    # A limit on the file's pages is how SQLite itself tells of a full disk.
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = [Change("call", "b", b"x" * 100_000), Change("call", "a", None)]
    with pytest.raises(StoreError, match="full"):
        store.write(batch, Head(1, "00" * 32), {})
    assert store.load() == {"call": {"a": b"1"}}
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.write(batch, Head(1, "00" * 32), {})
    assert store.load() == {"call": {"b": b"x" * 100_000}}
    store.close()
