"""Edits of the registry file: they change what they should, keep what a person wrote, and never leave a broken file."""

import os
import stat
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.registry import MAX_QUOTA_BPS, Guardian, GuardianStatus, load_registry, parse_registry
from gatekeeperd.policy.registry_edit import add_guardian, as_entry, set_status, write_registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "guardian-registry.yaml"
KEYS = [bytes(SigningKey(bytes([n]) * 32).verify_key) for n in range(1, 6)]


def guardian(name="new", key=KEYS[0], **changes):
    facts = {
        "terminal_id": f"if://guardian/{name}",
        "public_key": key,
        "role": "tester",
        "description": "",
        "archetype": "sceptic",
        "bandwidth_quota_bps": 2_000_000,
        "registered_at": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "status": GuardianStatus.ACTIVE,
        "veto_power": False,
        "specialization": (),
        "aliases": (),
    }
    return Guardian(**facts | changes)


@pytest.fixture
def path(tmp_path):
    copy = tmp_path / "registry.yaml"
    copy.write_text(EXAMPLE.read_text())
    return copy


def lines_changed(before, after):
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


_words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=40)


@settings(deadline=None, max_examples=100)
@given(
    role=_words,
    archetype=_words,
    description=st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), include_characters="\n"), max_size=300),
    quota=st.integers(1, MAX_QUOTA_BPS),
    registered_at=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    status=st.sampled_from(GuardianStatus),
    veto=st.booleans(),
    specialization=st.lists(_words, max_size=4),
    aliases=st.lists(_words, max_size=4, unique_by=str.casefold),
)
def test_any_guardian_survives_being_written(
    tmp_path_factory, role, archetype, description, quota, registered_at, status, veto, specialization, aliases
):
    written = guardian(
        role=role,
        archetype=archetype,
        description=description,
        bandwidth_quota_bps=quota,
        registered_at=registered_at,
        status=status,
        veto_power=veto,
        specialization=tuple(specialization),
        aliases=tuple(aliases),
    )
    path = tmp_path_factory.mktemp("registry") / "registry.yaml"
    write_registry(path, [written, guardian("other", KEYS[1])])
    assert list(load_registry(path)) == [written, guardian("other", KEYS[1])]
    add_guardian(path, replace(written, terminal_id="if://guardian/third", public_key=KEYS[2], aliases=()))
    set_status(path, "if://guardian/other", GuardianStatus.REVOKED)
    assert [member.terminal_id for member in load_registry(path)] == [
        "if://guardian/new",
        "if://guardian/other",
        "if://guardian/third",
    ]


def test_an_empty_registry_takes_its_first_guardian(tmp_path):
    path = tmp_path / "registry.yaml"
    assert len(write_registry(path, [])) == 0
    assert list(add_guardian(path, guardian())) == [guardian()]
    assert list(load_registry(path)) == [guardian()]


def test_guardians_may_share_their_facts(tmp_path):
    path = tmp_path / "registry.yaml"
    one = guardian("one", specialization=("networks",))
    other = replace(one, terminal_id="if://guardian/two", public_key=KEYS[1])
    assert list(write_registry(path, [one, other])) == [one, other]


def test_the_file_is_replaced_whole_and_readable_by_all(tmp_path, path):
    before = path.stat().st_ino
    path.chmod(0o600)
    registry = set_status(path, "if://guardian/civic", GuardianStatus.SUSPENDED)
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["registry.yaml"]
    assert registry.digest == load_registry(path).digest


def test_a_link_stays_a_link(tmp_path, path):
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    set_status(link, "if://guardian/civic", GuardianStatus.SUSPENDED)
    assert link.is_symlink()
    assert load_registry(path).get("if://guardian/civic").status is GuardianStatus.SUSPENDED


def test_a_change_of_status_changes_one_word(path):
    before = path.read_text()
    set_status(path, "if://guardian/ethical", GuardianStatus.SUSPENDED)
    at = before.index("status: active", before.index("guardian/ethical"))
    assert path.read_text() == before[:at] + "status: suspended" + before[at + len("status: active") :]
    set_status(path, "if://guardian/ethical", GuardianStatus.ACTIVE)
    assert path.read_text() == before


def test_status_is_found_behind_other_scripts_and_in_any_style(tmp_path):
    path = tmp_path / "registry.yaml"
    write_registry(path, [guardian(role="tëster \U0001f600 審査"), guardian("b", KEYS[1])])
    path.write_text(
        path.read_text().replace("status: active", 'status: "active"  # since spring').replace("\n", "\r\n"), newline=""
    )
    set_status(path, "if://guardian/b", GuardianStatus.SUSPENDED)
    text = path.read_bytes().decode()
    assert text.count('status: "active"  # since spring') == 1
    assert text.count("status: suspended  # since spring") == 1


def test_a_revoked_guardian_stays_revoked(path):
    set_status(path, "if://guardian/civic", GuardianStatus.REVOKED)
    before = path.read_text()
    for status in (GuardianStatus.ACTIVE, GuardianStatus.SUSPENDED):
        with pytest.raises(ConfigurationError, match="revoked for good") as caught:
            set_status(path, "if://guardian/civic", status)
        assert before.splitlines()[caught.value.line - 1].strip() == "status: revoked"
    set_status(path, "if://guardian/civic", GuardianStatus.REVOKED)
    assert path.read_text() == before


def test_an_unknown_guardian_changes_nothing(path):
    with pytest.raises(ConfigurationError, match="no guardian if://guardian/nobody"):
        set_status(path, "if://guardian/nobody", GuardianStatus.REVOKED)
    assert path.read_text() == EXAMPLE.read_text()


def test_a_guardian_is_added_below_the_last_and_comments_stay(path):
    registry = add_guardian(path, guardian(aliases=("N-99",)))
    removed, added = lines_changed(EXAMPLE.read_text(), path.read_text())
    assert removed == []
    assert added[0] == "  - terminal_id: if://guardian/new"
    assert [member.terminal_id for member in registry][-1] == "if://guardian/new"
    assert registry.owner_of("n-99") == guardian(aliases=("N-99",))


LITERAL = """\
version: 1
guardians:
- {terminal_id: if://guardian/a, public_key: "ed25519:%s", role: r, archetype: s, bandwidth_quota_bps: 1,
   registered_at: 2026-01-01T00:00:00Z, status: active, veto_power: true, specialization: []}
# b came later
- terminal_id: if://guardian/b
  public_key: ed25519:%s
  role: r
  archetype: s
  bandwidth_quota_bps: 1
  registered_at: 2026-01-01T00:00:00Z
  status: active
  veto_power: true
  specialization: []
  description: |
    first
    # no comment

# a comment behind
""" % (KEYS[1].hex(), KEYS[2].hex())  # fmt: skip
LITERAL = LITERAL.replace("role: r, ", 'role: r, description: "", ')


@pytest.mark.parametrize(
    "text",
    [
        LITERAL,
        LITERAL.removesuffix("# a comment behind\n"),
        LITERAL.rstrip("\n"),
        LITERAL + "...\n",
        LITERAL.replace("version: 1\n", "") + "version: 1\n",
        LITERAL.replace("|\n", "|-\n"),
        LITERAL.replace("  description: |\n    first\n    # no comment\n", "  description: x # end\n"),
    ],
)
def test_adding_below_a_literal_text_changes_nothing_above(tmp_path, text):
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    a, b = load_registry(path)
    c = guardian("c", description="one\ntwo\n")
    # What was last may end without a line break; it is the same text but for that.
    *others, last = add_guardian(path, c)
    assert [replace(other, description=other.description.rstrip()) for other in others] == [
        replace(other, description=other.description.rstrip()) for other in (a, b)
    ]
    assert last == c
    removed, _ = lines_changed(text, path.read_text())
    assert removed == []


def test_a_list_in_brackets_is_not_rewritten(tmp_path):
    path = tmp_path / "registry.yaml"
    head, entry = LITERAL.split("# b came")[0].split("- {")
    path.write_text(head.rstrip("\n") + " [{" + entry.rstrip() + "]\n")
    assert len(load_registry(path)) == 1
    with pytest.raises(ConfigurationError, match="brackets"):
        add_guardian(path, guardian("c"))
    set_status(path, "if://guardian/a", GuardianStatus.SUSPENDED)
    assert load_registry(path).get("if://guardian/a").status is GuardianStatus.SUSPENDED


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"terminal_id": "if://guardian/civic"}, "guardians[16].terminal_id"),
        ({"aliases": ("c-01",)}, "guardians[16].aliases[0]"),
        ({"terminal_id": "civic"}, "guardians[16].terminal_id"),
        ({"role": "a\nstatus: active"}, "guardians[16].role"),
    ],
)
def test_what_would_break_the_file_is_refused_and_the_file_stays(path, changes, field):
    with pytest.raises(ConfigurationError) as caught:
        add_guardian(path, replace(guardian(), **changes))
    assert caught.value.field == field
    assert path.read_text() == EXAMPLE.read_text()


def test_a_key_is_taken_once_only(path):
    add_guardian(path, guardian())
    with pytest.raises(ConfigurationError, match="already in use at line"):
        add_guardian(path, guardian("sybil"))


def test_a_file_with_an_error_is_not_edited(path):
    text = path.read_text().replace("status: active", "status: asleep", 1)
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        add_guardian(path, guardian())
    assert path.read_text() == text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, path, monkeypatch):
    def full(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("gatekeeperd.policy.registry_edit.os.fsync", full)
    with pytest.raises(ConfigurationError, match="can't be written: No space left"):
        set_status(path, "if://guardian/civic", GuardianStatus.SUSPENDED)
    assert path.read_text() == EXAMPLE.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["registry.yaml"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="folder can't be opened"):
        write_registry(tmp_path / "absent" / "registry.yaml", [guardian()])


def test_an_entry_holds_every_field():
    text = EXAMPLE.read_text()
    entry = as_entry(next(iter(parse_registry(text, EXAMPLE))))
    assert all(f"{name}:" in text for name in entry)
    assert set(entry) == {field.name for field in fields(Guardian)}
