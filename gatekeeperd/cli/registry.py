"""``councilctl registry``: look at the guardian registry and change it.

What lives here: arguments, tables and exit codes. What never does: rules (``policy.registry``) and edits
(``policy.registry_edit``). A daemon takes a changed file over at SIGHUP.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeperd.cli.key_options import private_key_file, public_key_given
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.registry import MAX_QUOTA_BPS, Guardian, GuardianStatus, Registry, load_registry
from gatekeeperd.policy.registry_edit import add_guardian, as_entry, set_status, write_registry

app = typer.Typer(name="registry", no_args_is_help=True, help="Look at the guardian registry and change it.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="the registry, e.g. guardian-registry.yaml")]
TerminalId = Annotated[str, typer.Argument(metavar="TERMINAL_ID", help="e.g. if://guardian/technical")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Validate a registry; exit code 1 and the line and field when it is wrong."""
    try:
        registry = load_registry(file)
    except ConfigurationError as error:
        if as_json:
            _print_json({"valid": False, "path": str(file), "line": error.line, "field": error.field, "message": error.message})
        else:
            Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
        raise typer.Exit(1) from error
    counts = {status.value: sum(guardian.status is status for guardian in registry) for status in GuardianStatus}
    if as_json:
        _print_json({"valid": True, "path": str(file), "guardians": len(registry), "digest": registry.digest, **counts})
    else:
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        noun = "guardian" if len(registry) == 1 else "guardians"
        typer.echo(f"{file}: {len(registry)} {noun} ({listed}), SHA-256 {registry.digest}")


@app.command("list")
def list_guardians(file: File, as_json: AsJson = False) -> None:
    """List the guardians with role, quota and status."""
    registry = load_registry(file)
    if as_json:
        _print_json({"digest": registry.digest, "guardians": [as_entry(guardian) for guardian in registry]})
        return
    table = Table("terminal_id", "aliases", "role", "archetype", "Mbit/s", "veto", "status")
    for guardian in registry:
        table.add_row(
            guardian.terminal_id,
            Text(", ".join(guardian.aliases)),
            Text(guardian.role),
            Text(guardian.archetype),
            f"{guardian.bandwidth_quota_bps / 1e6:.1f}",
            "veto" if guardian.veto_power else "",
            Text(guardian.status.value, style="" if guardian.status is GuardianStatus.ACTIVE else "red"),
        )
    Console().print(table)


@app.command()
def add(
    file: File,
    role: Annotated[str, typer.Option(help="what the guardian is there for")],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the guardian's key file: says who it is and its public key")
    ] = None,
    terminal_id: Annotated[str | None, typer.Option(help="if://guardian/NAME, where no key file says it")] = None,
    public_key: Annotated[
        str | None, typer.Option(help="ed25519: and 64 hexadecimal digits, as `keys new` prints it, where there is no key file")
    ] = None,
    archetype: Annotated[str, typer.Option(help="the stance it takes")] = "guardian",
    description: Annotated[str, typer.Option(help="for readers of the registry")] = "",
    bandwidth_quota_bps: Annotated[int, typer.Option(min=1, max=MAX_QUOTA_BPS, help="bit/s over all its calls")] = 2_000_000,
    specialization: Annotated[list[str] | None, typer.Option(help="may be given more than once")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="a further alias to register with; more than once")] = None,
    veto: Annotated[bool, typer.Option("--veto", help="may veto")] = False,
    as_json: AsJson = False,
) -> None:
    """Append an active guardian; comments in the file stay. A registry that is not there yet is begun."""
    identifier, public = _identity(key, terminal_id, public_key)
    guardian = Guardian(
        terminal_id=identifier,
        public_key=public,
        role=role,
        description=description,
        archetype=archetype,
        bandwidth_quota_bps=bandwidth_quota_bps,
        registered_at=datetime.now(UTC).replace(microsecond=0),
        status=GuardianStatus.ACTIVE,
        veto_power=veto,
        specialization=tuple(specialization or ()),
        aliases=tuple(alias or ()),
    )
    registry = add_guardian(file, guardian) if file.exists() else write_registry(file, [guardian])
    _report(registry, identifier, as_json=as_json)


def _identity(key: Path | None, terminal_id: str | None, public_key: str | None) -> tuple[str, bytes]:
    """Return terminal_id and public key, from the key file or as they were given."""
    if key is not None:
        pair = private_key_file(key)
        if public_key is not None and public_key_given(public_key, "--public-key") != pair.public:
            raise ConfigurationError("is not the key of the key file", field="--public-key")
        terminal_id, public = terminal_id or pair.terminal_id, pair.public
    elif public_key is not None:
        public = public_key_given(public_key, "--public-key")
    else:
        raise ConfigurationError("give --key FILE, or --public-key and --terminal-id", field="--key")
    if terminal_id is None:
        raise ConfigurationError("say whose key it is: the key file does not", field="--terminal-id")
    return terminal_id, public


@app.command()
def suspend(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Keep a guardian out until it is reinstated."""
    _set(file, terminal_id, GuardianStatus.SUSPENDED, as_json=as_json)


@app.command()
def reinstate(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Lift a suspension."""
    _set(file, terminal_id, GuardianStatus.ACTIVE, as_json=as_json)


@app.command()
def revoke(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Keep a guardian out for good."""
    _set(file, terminal_id, GuardianStatus.REVOKED, as_json=as_json)


def _set(file: Path, terminal_id: str, status: GuardianStatus, *, as_json: bool) -> None:
    whole = f"if://guardian/{terminal_id}"
    if load_registry(file).get(whole) is not None:
        raise ConfigurationError(f"no guardian {terminal_id}; did you mean {whole}?", path=file)
    _report(set_status(file, terminal_id, status), terminal_id, as_json=as_json)


def _report(registry: Registry, terminal_id: str, *, as_json: bool) -> None:
    guardian = next(guardian for guardian in registry if guardian.terminal_id == terminal_id)
    if as_json:
        _print_json({"digest": registry.digest, "guardian": as_entry(guardian)})
    else:
        typer.echo(f"{terminal_id} is {guardian.status.value}; a running daemon takes it over at SIGHUP")


def _print_json(value: dict[str, object]) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=datetime.isoformat))
