"""gatekeeperd.yaml: what it means, and that each mistake names file, line and field."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest

from gatekeeperd.cli.daemon import main
from gatekeeperd.config import (
    LimitsSection,
    RatesSection,
    default_state_directory,
    load_config,
    load_passwords,
    load_tokens,
    read_secret,
    standalone,
)
from gatekeeperd.core.settings import AlternateGatekeeper, CallModel, RateLimits, Settings
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.gates import Limits

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gatekeeperd.yaml"
MINIMUM = "state_directory: state\nregistry: registry.yaml\n"


def write(directory: Path, text: str, name: str = "gatekeeperd.yaml", mode: int = 0o600) -> Path:
    path = directory / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_example_states_the_defaults(tmp_path: Path) -> None:
    shown = load_config(EXAMPLE)
    least = load_config(write(tmp_path, MINIMUM + "node: gk-a\n"))
    differing = {item.name for item in fields(shown) if getattr(shown, item.name) != getattr(least, item.name)}
    assert differing == {"state_directory", "registry"}


def test_sections_mirror_what_the_core_is_told() -> None:
    assert asdict(LimitsSection()) == asdict(Limits())
    assert asdict(RatesSection()) == asdict(RateLimits())


def test_settings_carry_every_fact(tmp_path: Path) -> None:
    text = (
        MINIMUM
        + """
gatekeeper: {identifier: gk, call_model: direct, time_to_live_s: 60, irr_frequency_s: 30, allow_unsigned: true, rooms: [hall]}
ras: {bind: [192.0.2.1, "2001:DB8::1"], call_signal_port: 1300}
limits: {room_participants: 3}
rates: {per_source_burst: 7}
neighbours: [198.51.100.4]
alternates: [{host: 192.0.2.9, identifier: other, priority: 5, need_to_register: false}]
pii: {patterns: {badge: "BADGE-[0-9]{4}"}}
"""
    )
    config = load_config(write(tmp_path, text))
    told = config.to_settings((("192.0.2.1", 1719), ("2001:db8::1", 1719)), {"room": "password"})
    assert told == Settings(
        gatekeeper_identifier="gk",
        ras_addresses=(("192.0.2.1", 1719), ("2001:db8::1", 1719)),
        call_signal_addresses=(("192.0.2.1", 1300), ("2001:db8::1", 1300)),
        call_model=CallModel.DIRECT,
        time_to_live_s=60,
        irr_frequency_s=30,
        allow_unsigned=True,
        passwords={"room": "password"},
        neighbours=("198.51.100.4",),
        alternates=(
            AlternateGatekeeper(
                ras_address=("192.0.2.9", 1719), gatekeeper_identifier="other", priority=5, need_to_register=False
            ),
        ),
        rooms=("hall",),
        limits=Limits(room_participants=3),
        pii_rules=told.pii_rules,
        rates=RateLimits(per_source_burst=7),
    )
    assert [finding.rule for finding in told.pii_rules.scan([("display", "badge-1234")])] == ["badge"]
    assert config.ras.bind == ("192.0.2.1", "2001:db8::1")
    assert "password" not in repr(told)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = MINIMUM + "http: {certificate: c.pem, private_key: /k.pem, tokens_file: t}\nwitness: {directory: w}\n"
    config = load_config(write(tmp_path, text))
    assert config.state_directory == tmp_path / "state"
    assert (config.http.certificate, config.http.private_key) == (tmp_path / "c.pem", Path("/k.pem"))
    assert config.http.tokens_file == tmp_path / "t"
    assert config.witness_directory == tmp_path / "w"


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("gatekeeper: {surprise: 1}", 3, "gatekeeper.surprise"),
        ("surprise: 1", 3, "surprise"),
        ("gatekeeper:\n  time_to_live_s: 5", 4, "gatekeeper.time_to_live_s"),
        ("gatekeeper:\n  time_to_live_s: '60'", 4, "gatekeeper.time_to_live_s"),
        ("gatekeeper: {identifier: 7}", 3, "gatekeeper.identifier"),
        ("gatekeeper: {call_model: routed}", 3, "gatekeeper.call_model"),
        ("gatekeeper:\n\n  {call_model: direct, pre_grant: true}", 3, "gatekeeper"),
        ("gatekeeper: {allow_unsigned: 1}", 3, "gatekeeper.allow_unsigned"),
        ("ras: {bind: [0.0.0.0]}", 3, "ras.bind[0]"),
        ("ras: {bind: ['::']}", 3, "ras.bind[0]"),
        ("ras: {bind: [224.0.1.41]}", 3, "ras.bind[0]"),
        ("ras: {bind: ['fe80::1']}", 3, "ras.bind[0]"),
        ("ras: {bind: [gk.example]}", 3, "ras.bind[0]"),
        ("ras: {bind: [192.0.2.1, 192.0.2.2]}", 3, "ras.bind"),
        ("ras: {bind: []}", 3, "ras.bind"),
        ("ras: {port: 1720}", 3, "ras.port"),
        ("ras: {port: 65536}", 3, "ras.port"),
        ("http: {certificate: c.pem}", 3, "http"),
        ("http: {requests_per_s: .inf}", 3, "http.requests_per_s"),
        ("witness: {retention_days: 0}", 3, "witness.retention_days"),
        ("witness: {checkpoint_interval_s: 6}", 3, "witness.checkpoint_interval_s"),
        ("limits: {total_bps: 0}", 3, "limits.total_bps"),
        ("pii: {patterns: {x: '('}}", 3, "pii"),
        ("neighbours: [192.0.2.256]", 3, "neighbours[0]"),
        ("alternates: [{host: 192.0.2.1, priority: 128}]", 3, "alternates[0].priority"),
        ("log: {level: loud}", 3, "log.level"),
        ("node: ''", 3, "node"),
        ("registry: again.yaml", 3, "registry"),
    ],
)
def test_a_mistake_names_line_and_field(tmp_path: Path, text: str, line: int, field: str) -> None:
    path = write(tmp_path, f"{MINIMUM}{text}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, line, field)


@pytest.mark.parametrize("octets", [b"", b"- 1", b"\xff\xfe", b"a: [", b"#" * (1024 * 1024 + 1)])
def test_what_is_no_configuration_names_the_file(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "gatekeeperd.yaml"
    path.write_bytes(octets)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert caught.value.path == path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, "passwords: {room: 'a long password'}", mode=mode)
    for read in (load_passwords, load_tokens, read_secret):
        with pytest.raises(ConfigurationError, match="chmod 600"):
            read(path)


def test_passwords_and_tokens(tmp_path: Path) -> None:
    passwords = write(tmp_path, "passwords: {room: 'a long password'}", "passwords")
    assert load_passwords(passwords) == {"room": "a long password"}
    digest = "ab" * 32
    tokens = write(tmp_path, f"tokens: [{{name: monitoring, sha256: {digest}}}]", "tokens")
    assert [(token.name, token.sha256) for token in load_tokens(tokens)] == [("monitoring", digest)]


@pytest.mark.parametrize(
    ("text", "secret"), [("passwords: {room: secret1}", "secret1"), ("tokens: [{name: a, sha256: S3}]", "S3")]
)
def test_a_mistake_in_a_secret_file_does_not_tell_the_secret(tmp_path: Path, text: str, secret: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        (load_passwords if "passwords" in text else load_tokens)(path)
    assert caught.value.line == 1
    assert secret not in str(caught.value)


def test_standalone_names_the_option_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        standalone(bind=("somewhere",), registry=tmp_path, state_directory=tmp_path)
    assert caught.value.field is not None
    assert caught.value.field.endswith("bind[0]")


def test_state_of_an_ordinary_user_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_directory() == tmp_path / "gatekeeperd"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_directory() == tmp_path / ".local" / "state" / "gatekeeperd"


def test_check_config_tells_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(EXAMPLE)]) == 0
    printed = capsys.readouterr()
    assert "127.0.0.1 port 1719/udp" in printed.out
    assert "16 guardians" in printed.out
    assert printed.err == ""


def test_check_config_lists_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "guardians: []\n", "registry.yaml")
    write(tmp_path, "passwords: {}\n", "passwords", 0o644)
    write(tmp_path, "tokens: none\n", "tokens")
    text = MINIMUM + (
        "gatekeeper: {passwords_file: passwords}\nhttp: {certificate: c.pem, private_key: k.pem, tokens_file: tokens}\n"
    )
    assert main(["check-config", str(write(tmp_path, text))]) == 1
    printed = capsys.readouterr()
    named = [line.partition(":")[0].rpartition("/")[2] for line in printed.err.splitlines()]
    assert named == ["registry.yaml", "passwords", "tokens", "c.pem"]
    assert printed.out == ""
