"""What an operator writes in ``gatekeeperd.yaml``, and the files that it names.

What lives here: the sections with their units, bounds and defaults, the defaults of ``--standalone``, and the reading of
the small secret files (passwords, API tokens). What never does: behaviour. Each complaint is a
:class:`ConfigurationError` that names file, line and field.

Keys are the ITU's names in snake case (``time_to_live_s``), with the unit where there is one. Paths are relative to the
directory of the file that names them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.core.settings import AlternateGatekeeper, CallModel, RateLimits, Settings
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.documents import field_name, parse_document, validate
from gatekeeperd.policy.gates import Limits
from gatekeeperd.policy.pii import PiiRules

RAS_PORT: Final = 1719
CALL_SIGNAL_PORT: Final = 1720
HTTP_PORT: Final = 8443
METRICS_PORT: Final = 9719
#: The core's own defaults, so that they stand in one place.
_LIMITS: Final = Limits()
_RATES: Final = RateLimits()
#: A secret file larger than this is not one of ours.
_SECRET_FILE_LIMIT: Final = 1024 * 1024


def _host(text: str) -> str:
    """Canonical text of an address that a terminal can be told."""
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        raise ValueError("name the address itself: terminals are told it, and answers must come from it")
    return _listen(text)


def _listen(text: str) -> str:
    address = ipaddress.ip_address(text)
    if address.is_multicast:
        raise ValueError("is a multicast address")
    if address.is_link_local and address.version == 6:
        raise ValueError("a link-local IPv6 address means nothing to a terminal on another link")
    return str(address)


def _one_per_family(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if not hosts or len({":" in host for host in hosts}) != len(hosts):
        raise ValueError("one IPv4 address, one IPv6 address, or one of each")
    return hosts


def _no_signalling_port(port: int) -> int:
    if port == CALL_SIGNAL_PORT:
        raise ValueError(f"{CALL_SIGNAL_PORT} is call signalling, never RAS")
    return port


Host = Annotated[str, AfterValidator(_host)]
Hosts = Annotated[tuple[Host, ...], AfterValidator(_one_per_family)]
#: TCP servers may also listen on every address.
ListenHosts = Annotated[tuple[Annotated[str, AfterValidator(_listen)], ...], AfterValidator(_one_per_family)]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=86_400)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=128)]
Flag = Annotated[bool, Field(strict=True)]

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class GatekeeperSection:
    """How the RAS state machine behaves."""

    identifier: Annotated[str, Field(strict=True, min_length=1, max_length=128)] = "council"
    call_model: CallModel = CallModel.GATEKEEPER_ROUTED
    pre_grant: Flag = False
    time_to_live_s: Annotated[int, Field(strict=True, ge=10, le=86_400)] = 120
    irr_frequency_s: Annotated[int, Field(strict=True, ge=10, le=65_535)] = 120
    allow_unsigned: Flag = False
    rooms: tuple[Name, ...] = ("council",)
    passwords_file: Path | None = None
    max_registrations: Count = 20_000
    max_calls: Count = 100_000
    vouch_lifetime_s: Seconds = 300
    vouch_calls: Count = 1

    @model_validator(mode="after")
    def _no_pre_grant_in_direct_mode(self) -> GatekeeperSection:
        if self.pre_grant and self.call_model is CallModel.DIRECT:
            raise ValueError("pre_grant is for gatekeeperRouted alone: in direct mode no gate would ever see the call")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class RasSection:
    """Where RAS listens. Port 0 lets the kernel choose (tests)."""

    bind: Hosts = ("127.0.0.1",)
    port: Annotated[Port, AfterValidator(_no_signalling_port)] = RAS_PORT
    #: Join 224.0.1.41:1718 for discovery on the interface of the IPv4 address.
    multicast: Flag = True
    call_signal_port: Port = CALL_SIGNAL_PORT
    #: SO_RCVBUF; the kernel bounds it by net.core.rmem_max.
    receive_buffer_octets: Annotated[int, Field(strict=True, ge=65_536, le=256 * 1024 * 1024)] = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class HttpSection:
    """The HTTPS API. Without certificate and key a self-signed pair is made in the state directory."""

    bind: ListenHosts = ("127.0.0.1",)
    port: Port = HTTP_PORT
    certificate: Path | None = None
    private_key: Path | None = None
    tokens_file: Path | None = None
    requests_per_s: Annotated[float, Field(gt=0)] = 20.0
    burst: Count = 40

    @model_validator(mode="after")
    def _a_pair(self) -> HttpSection:
        if (self.certificate is None) is not (self.private_key is None):
            raise ValueError("certificate and private_key come together")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class MetricsSection:
    """Prometheus metrics over plain HTTP: bind them to an address that only the scraper reaches."""

    bind: ListenHosts = ("127.0.0.1",)
    port: Port = METRICS_PORT


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class WitnessSection:
    """The witness log. ``directory`` defaults to ``witness`` in the state directory."""

    directory: Path | None = None
    retention_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] = 90
    #: A record waits no longer for a signed checkpoint, and never behind more than that many others.
    checkpoint_interval_s: Annotated[int, Field(strict=True, ge=1, le=5)] = 5
    checkpoint_records: Annotated[int, Field(strict=True, ge=2, le=1000)] = 1000


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class LimitsSection:
    """Fairness and capacity gates: :class:`gatekeeperd.policy.gates.Limits`."""

    total_bps: Count = _LIMITS.total_bps
    per_call_bps: Count = _LIMITS.per_call_bps
    floor_bps: Annotated[int, Field(strict=True, ge=0)] = _LIMITS.floor_bps
    calls_per_guardian: Count = _LIMITS.calls_per_guardian
    longest_call_s: Count = _LIMITS.longest_call_s
    room_participants: Count = _LIMITS.room_participants


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class PiiSection:
    """What counts as personal data in names: the built-in patterns, and the operator's own by rule name."""

    defaults: Flag = True
    patterns: dict[Name, str] = field(default_factory=dict)

    @model_validator(mode="after")
    def _safe_patterns(self) -> PiiSection:
        try:
            self.to_rules()
        except ConfigurationError as error:  # pydantic wants a ValueError, and adds the line
            raise ValueError(str(error)) from error
        return self

    def to_rules(self) -> PiiRules:
        """Compile the patterns."""
        return PiiRules.configured(self.patterns, defaults=self.defaults)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class RatesSection:
    """Token buckets: :class:`gatekeeperd.core.settings.RateLimits`."""

    per_source_per_s: Annotated[float, Field(gt=0)] = _RATES.per_source_per_s
    per_source_burst: Count = _RATES.per_source_burst
    per_session_per_s: Annotated[float, Field(gt=0)] = _RATES.per_session_per_s
    per_session_burst: Count = _RATES.per_session_burst
    max_sources: Count = _RATES.max_sources
    stranger_records_per_s: Annotated[float, Field(gt=0)] = _RATES.stranger_records_per_s
    stranger_records_burst: Count = _RATES.stranger_records_burst


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class AlternateSection:
    """An alternate gatekeeper that terminals are told of."""

    host: Host
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = RAS_PORT
    identifier: Name = "council"
    need_to_register: Flag = True
    priority: Annotated[int, Field(strict=True, ge=0, le=127)] = 1


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class LogSection:
    """The daemon's own log, on standard error."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Config:
    """The whole of ``gatekeeperd.yaml``."""

    state_directory: Path
    registry: Path
    node: Name = field(default_factory=socket.gethostname)
    gatekeeper: GatekeeperSection = field(default_factory=GatekeeperSection)
    ras: RasSection = field(default_factory=RasSection)
    http: HttpSection = field(default_factory=HttpSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    witness: WitnessSection = field(default_factory=WitnessSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    pii: PiiSection = field(default_factory=PiiSection)
    rates: RatesSection = field(default_factory=RatesSection)
    neighbours: tuple[Host, ...] = ()
    alternates: tuple[AlternateSection, ...] = ()
    log: LogSection = field(default_factory=LogSection)

    @property
    def witness_directory(self) -> Path:
        """Where the witness log is written."""
        return self.witness.directory or self.state_directory / "witness"

    def to_settings(self, ras_addresses: tuple[TransportAddress, ...], passwords: dict[str, str]) -> Settings:
        """Make what the state machine is told. ``ras_addresses`` are bound: the kernel may have chosen the port."""
        gatekeeper = self.gatekeeper
        return Settings(
            gatekeeper_identifier=gatekeeper.identifier,
            ras_addresses=ras_addresses,
            call_signal_addresses=tuple((host, self.ras.call_signal_port) for host, _ in ras_addresses),
            call_model=gatekeeper.call_model,
            pre_grant=gatekeeper.pre_grant,
            time_to_live_s=gatekeeper.time_to_live_s,
            irr_frequency_s=gatekeeper.irr_frequency_s,
            allow_unsigned=gatekeeper.allow_unsigned,
            passwords=passwords,
            neighbours=self.neighbours,
            alternates=tuple(
                AlternateGatekeeper(
                    ras_address=(alternate.host, alternate.port),
                    gatekeeper_identifier=alternate.identifier,
                    need_to_register=alternate.need_to_register,
                    priority=alternate.priority,
                )
                for alternate in self.alternates
            ),
            rooms=gatekeeper.rooms,
            limits=Limits(**asdict(self.limits)),
            pii_rules=self.pii.to_rules(),
            rates=RateLimits(**asdict(self.rates)),
            max_registrations=gatekeeper.max_registrations,
            max_calls=gatekeeper.max_calls,
            vouch_lifetime_s=gatekeeper.vouch_lifetime_s,
            vouch_calls=gatekeeper.vouch_calls,
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ApiToken:
    """A bearer token of the API: its SHA-256 is stored, never the token."""

    name: Name
    sha256: Annotated[str, Field(strict=True, pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _TokensFile:
    tokens: tuple[ApiToken, ...] = Field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _PasswordsFile:
    passwords: dict[Name, Annotated[str, Field(strict=True, min_length=8, max_length=128)]] = Field(repr=False)


def load_config(path: Path) -> Config:
    """Read ``gatekeeperd.yaml``. Raises :class:`ConfigurationError`."""
    config = validate(parse_document(_read(path), path), TypeAdapter(Config))
    return _relative_to(config, path.resolve().parent)


def standalone(
    *,
    bind: tuple[str, ...],
    registry: Path,
    state_directory: Path,
    port: int = RAS_PORT,
    http_port: int = HTTP_PORT,
    metrics_port: int = METRICS_PORT,
    call_model: CallModel = CallModel.GATEKEEPER_ROUTED,
    allow_unsigned: bool = False,
) -> Config:
    """Build the configuration of one node that an ordinary user runs. Raises :class:`ConfigurationError`."""
    values: dict[str, Any] = {
        "state_directory": state_directory,
        "registry": registry,
        "gatekeeper": {"call_model": call_model, "allow_unsigned": allow_unsigned},
        "ras": {"bind": bind, "port": port},
        "http": {"bind": bind, "port": http_port},
        "metrics": {"bind": bind, "port": metrics_port},
    }
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ConfigurationError(first["msg"].removeprefix("Value error, "), field=field_name(first["loc"])) from error


def default_state_directory() -> Path:
    """Return where an ordinary user's daemon keeps its state (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "gatekeeperd"


def load_tokens(path: Path) -> tuple[ApiToken, ...]:
    """Read the hashed API tokens (mode 0600). Raises :class:`ConfigurationError`."""
    return validate(parse_document(read_secret(path), path), TypeAdapter(_TokensFile)).tokens


def load_passwords(path: Path) -> dict[str, str]:
    """Read H.323 alias to password for room systems (mode 0600). Raises :class:`ConfigurationError`."""
    return validate(parse_document(read_secret(path), path), TypeAdapter(_PasswordsFile)).passwords


def read_secret(path: Path) -> str:
    """Read a file that only its owner may read. Raises :class:`ConfigurationError` where others can."""
    return _read(path, secret=True)


def _read(path: Path, *, secret: bool = False) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if secret and mode & 0o077:
                raise ConfigurationError(f"mode {mode:04o} lets others read a secret: chmod 600 it", path=path)
            octets = file.read(_SECRET_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error), path=path) from error
    if len(octets) > _SECRET_FILE_LIMIT:
        raise ConfigurationError(f"larger than {_SECRET_FILE_LIMIT} octets", path=path)
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8", path=path) from error


def _relative_to(config: Config, directory: Path) -> Config:
    def anchored(path: Path | None) -> Path | None:
        return None if path is None else directory / path

    return replace(
        config,
        state_directory=directory / config.state_directory,
        registry=directory / config.registry,
        gatekeeper=replace(config.gatekeeper, passwords_file=anchored(config.gatekeeper.passwords_file)),
        http=replace(
            config.http,
            certificate=anchored(config.http.certificate),
            private_key=anchored(config.http.private_key),
            tokens_file=anchored(config.http.tokens_file),
        ),
        witness=replace(config.witness, directory=anchored(config.witness.directory)),
    )
