"""The registry file: what is taken, and what is refused with which line and field."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy import documents, registry
from gatekeeperd.policy.registry import GuardianStatus, load_registry, parse_registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "guardian-registry.yaml"
PATH = Path("guardian-registry.yaml")
KEYS = ["ed25519:" + bytes(SigningKey(bytes([n]) * 32).verify_key).hex() for n in range(1, 5)]

ENTRY = """\
  - terminal_id: if://guardian/{name}
    public_key: {key}
    role: technical
    description: Judges whether it can be built.
    archetype: engineer
    bandwidth_quota_bps: 2500000
    registered_at: 2026-01-01T00:00:00Z
    status: active
    veto_power: false
    specialization: [networks]
    aliases: [{alias}]
"""
TWO = (
    "version: 1\nguardians:\n"
    + ENTRY.format(name="one", key=KEYS[0], alias="T-01")
    + ENTRY.format(name="two", key=KEYS[1], alias="T-02")
)


def line_of(text, part):
    return text[: text.index(part)].count("\n") + 1


def refused(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_registry(text, PATH)
    assert caught.value.path == PATH
    assert str(caught.value).startswith("guardian-registry.yaml:")
    return caught.value


def test_a_guardian_is_read_as_it_is_written():
    guardian = parse_registry(TWO, PATH).get("if://guardian/one")
    assert guardian.public_key == bytes(SigningKey(bytes([1]) * 32).verify_key)
    assert guardian.registered_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert guardian.status is GuardianStatus.ACTIVE
    assert (guardian.bandwidth_quota_bps, guardian.veto_power) == (2_500_000, False)
    assert (guardian.specialization, guardian.aliases) == (("networks",), ("T-01",))
    with pytest.raises(AttributeError):
        guardian.veto_power = True


def test_the_registry_finds_by_identifier_and_by_alias():
    council = parse_registry(TWO, PATH)
    one, two = council
    assert len(council) == 2
    assert council.get("if://guardian/two") is two
    assert council.get("if://guardian/three") is None
    assert council.owner_of("t-01") is one
    assert council.owner_of("IF://guardian/two") is two
    assert council.owner_of("T-03") is None


def test_aliases_may_be_absent():
    council = parse_registry(TWO.replace("    aliases: [T-01]\n", ""), PATH)
    assert council.get("if://guardian/one").aliases == ()


def test_the_digest_is_that_of_the_files_octets(tmp_path):
    path = tmp_path / "registry.yaml"
    octets = TWO.replace("it can", "él can").replace("\n", "\r\n").encode()
    path.write_bytes(octets)
    assert load_registry(path).digest == hashlib.sha256(octets).hexdigest()


def test_the_spki_form_of_a_key_is_the_same_key():
    spki = "ed25519:302a300506032b6570032100" + KEYS[0].removeprefix("ed25519:")
    assert parse_registry(TWO.replace(KEYS[0], spki), PATH).get("if://guardian/one").public_key.hex() == KEYS[0][8:]


ERRORS = {
    # name: (old, new, part whose first line is wrong, field, words of the message)
    "identifier with a space": ("if://guardian/two", "if://guardian/t wo", "t wo", "guardians[1].terminal_id", "pattern"),
    "identifier of another kind": ("if://guardian/two", "sip:two@example.org", "sip:two", "guardians[1].terminal_id", "pattern"),
    "identifier with capitals": ("if://guardian/two", "if://guardian/Two", "Two", "guardians[1].terminal_id", "pattern"),
    "identifier with a line break": (
        "if://guardian/two",
        '"if://guardian/two\\n"',
        "two\\n",
        "guardians[1].terminal_id",
        "pattern",
    ),
    "identifier too long": ("if://guardian/two", "if://guardian/" + "t" * 51, "ttt", "guardians[1].terminal_id", "64"),
    "key of wrong length": (KEYS[1], KEYS[1][:-2], KEYS[1][:-2] + "\n", "guardians[1].public_key", "public key"),
    "key that is no text": (KEYS[1], "25519", " 25519\n", "guardians[1].public_key", "must be a text"),
    "key of small order": (KEYS[1], "ed25519:01" + "00" * 31, "ed25519:0100", "guardians[1].public_key", "no point"),
    "key off the curve": (KEYS[1], "ed25519:02" + "00" * 31, "ed25519:0200", "guardians[1].public_key", "no point"),
    "no role": ("    role: technical\n", "", "- terminal_id: if://guardian/one", "guardians[0].role", "is missing"),
    "role is a yes": ("role: technical", "role: yes", "role: yes", "guardians[0].role", "string"),
    "role with a control character": ("role: technical", 'role: "tech\\x1b[2J"', 'role: "tech', "guardians[0].role", "pattern"),
    "empty archetype": ("archetype: engineer", "archetype: ''", "archetype: ''", "guardians[0].archetype", "1 character"),
    "quota of nothing": ("2500000", "0", "quota_bps: 0", "guardians[0].bandwidth_quota_bps", "greater"),
    "quota above the node's budget": ("2500000", "100000001", "100000001", "guardians[0].bandwidth_quota_bps", "less"),
    "quota in words": ("2500000", "2.5 Mbit/s", "2.5 Mbit", "guardians[0].bandwidth_quota_bps", "integer"),
    "quota quoted": ("2500000", "'2500000'", "'2500000'", "guardians[0].bandwidth_quota_bps", "integer"),
    "quota is a yes": ("2500000", "true", "quota_bps: true", "guardians[0].bandwidth_quota_bps", "integer"),
    "time without a zone": (
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "00:00:00\n",
        "guardians[0].registered_at",
        "timezone",
    ),
    "a date": ("2026-01-01T00:00:00Z", "2026-01-01", "at: 2026-01-01\n", "guardians[0].registered_at", "datetime"),
    "a date that never was": ("2026-01-01T00:00:00Z", "2026-02-30", "2026-02-30", "guardians[0].registered_at", "day"),
    "unknown status": ("status: active", "status: retired", "status: retired", "guardians[0].status", "'active'"),
    "veto as a word": ("veto_power: false", "veto_power: perhaps", "perhaps", "guardians[0].veto_power", "boolean"),
    "specialization not a list": ("[networks]", "networks", ": networks", "guardians[0].specialization", "tuple"),
    "number among specializations": (
        "[networks]",
        "\n    - networks\n    - 7",
        "- 7",
        "guardians[0].specialization[1]",
        "string",
    ),
    "unknown field": ("    aliases", "    alias: x\n    aliases", "alias: x", "guardians[0].alias", "not a field"),
    "field given twice": ("    aliases", "    role: other\n    aliases", "role: other", "guardians[0].role", "twice"),
    "unknown part": ("version: 1\n", "version: 1\ncouncil: x\n", "council: x", "council", "not a field"),
    "another version": ("version: 1\n", "version: 2\n", "version: 2", "version", "1"),
    "no version": ("version: 1\n", "", "guardians:", "version", "is missing"),
    "same key twice": (
        KEYS[1],
        KEYS[0].upper().replace("ED25519", "ed25519"),
        "ed25519:" + KEYS[0][8:].upper(),
        "guardians[1].public_key",
        "line 4",
    ),
    "same identifier twice": ("guardian/two", "guardian/one", None, "guardians[1].terminal_id", "line 3"),
    "same alias in other letters": ("T-02", "t-01", "t-01", "guardians[1].aliases[0]", "line 13"),
    "alias is another's identifier": ("[T-02]", "['IF://guardian/one']", "IF://", "guardians[1].aliases[0]", "line 3"),
    "list instead of a mapping": ("guardians:\n", "guardians:\n  - 7\n", "- 7", "guardians[0]", "dictionary"),
    "anchor": ("[networks]", "&a [networks]", "&a", None, "anchors"),
    "alias": ("[networks]", "*a", "*a", None, "anchors"),
    "merge key": ("    aliases", "    <<: {}\n    aliases", "<<", "guardians[0]", "key must be a name"),
    "tag": ("[networks]", "!!python/tuple [networks]", "!!python", "guardians[0].specialization", "tag"),
    "tagged scalar": ("role: technical", "role: !!python/name:os.system x", "!!python", None, "could not determine"),
    "set": ("[networks]", "!!set {networks}", "!!set", "guardians[0].specialization", "tag"),
    "not YAML": ("[networks]", "[networks", "    aliases", None, "not YAML"),
    "two documents": ("version: 1\n", "version: 1\n---\nversion: 1\n", "---", None, "not YAML"),
}


@pytest.mark.parametrize(("old", "new", "part", "field", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_names_line_and_field(old, new, part, field, words):
    text = TWO.replace(old, new, 1)
    assert text != TWO
    error = refused(text)
    assert error.field == field
    assert words in str(error)
    # The second guardian's identifier is the one case whose text stands in the file twice.
    assert error.line == (line_of(text, part) if part else 14)


def test_all_errors_are_listed_from_the_top():
    error = refused(TWO.replace("active", "retired").replace("role: technical", "role: 7"))
    assert (error.line, error.field) == (5, "guardians[0].role")
    for listed in ("3 more", "line 10: guardians[0].status", "line 16: guardians[1].role", "line 21: guardians[1].status"):
        assert listed in error.message
    assert "\n" not in str(error)


def test_a_long_list_of_errors_is_cut():
    entries = "".join(f"  - terminal_id: {n}\n" for n in range(20))
    error = refused("version: 1\nguardians:\n" + entries)
    assert error.line == 3
    assert len(str(error)) < 2000


@pytest.mark.parametrize("text", ["", "# nothing\n", "guardians", "[]", "7"])
def test_what_is_no_registry_at_all_is_refused(text):
    assert refused(text).line == 1


def test_a_file_that_cannot_be_read_names_its_path(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigurationError, match="can't be read") as caught:
            load_registry(path)
        assert caught.value.path == path


def test_octets_that_are_no_text_name_their_line(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_bytes(b"version: 1\n# \xff\n")
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        load_registry(path)
    assert caught.value.line == 2


def test_a_control_character_is_refused():
    refused(TWO.replace("engineer", "\x07"))


def test_a_file_that_everybody_may_write_decides_nothing(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(TWO)
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="every user may write it"):
        load_registry(path)
    path.chmod(0o664)
    assert len(load_registry(path)) == 2


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "MAX_CHARACTERS", 1000)
    path = tmp_path / "registry.yaml"
    path.write_text(TWO.ljust(1001, "#"))
    with pytest.raises(ConfigurationError, match="larger than 1000"):
        load_registry(path)
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 1000)
    assert "larger than 1000" in str(refused(TWO.ljust(1001, "#")))


@pytest.mark.parametrize("depth", [16, 500, 100_000])
def test_depth_is_bounded(depth):
    assert refused("version: 1\nguardians: " + "[" * 15 + "]" * 15).field == "guardians[0]"
    error = refused("version: 1\nguardians: " + "[" * depth + "]" * depth)
    assert (error.line, error.field) == (2, None)


def test_one_guardian_more_than_ten_thousand_is_refused():
    error = refused("version: 1\nguardians:\n" + "  - {}\n" * 10_001)
    assert (error.field, error.line) == ("guardians", 2)
    assert "10000" in error.message


def test_the_example_holds_the_eight_of_the_design_and_eight_more():
    council = load_registry(EXAMPLE)
    eight = {"T-01": 2.5, "C-01": 2.0, "E-01": 2.5, "K-01": 2.0, "Cont-01": 2.5, "M-01": 2.0, "S-01": 2.5, "A-01": 2.0}
    assert {alias: council.owner_of(alias).bandwidth_quota_bps / 1e6 for alias in eight} == eight
    assert len(council) == 16
    assert [guardian.terminal_id for guardian in council if guardian.veto_power] == ["if://guardian/contrarian"]
    assert all(guardian.status is GuardianStatus.ACTIVE for guardian in council)


@pytest.mark.parametrize("character", ["\\x1b", "\\x9b", "\\r", "\\N", "\\L", "\\t"])
def test_a_description_holds_line_breaks_and_no_other_control_character(character):
    def described(text):
        return TWO.replace("Judges whether it can be built.", f'"one\\ntwo{text}"', 1)

    assert parse_registry(described(""), PATH).get("if://guardian/one").description == "one\ntwo"
    assert refused(described(character)).field == "guardians[0].description"
