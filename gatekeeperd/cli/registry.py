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

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.registry import MAX_QUOTA_BPS, Guardian, GuardianStatus, Registry, load_registry
from gatekeeperd.policy.registry_edit import add_guardian, as_entry, set_status
from gatekeeperd.security.keys import parse_public_key

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
        typer.echo(f"{file}: {len(registry)} guardians ({listed}), SHA-256 {registry.digest}")


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
    terminal_id: Annotated[str, typer.Option(help="if://guardian/NAME")],
    public_key: Annotated[str, typer.Option(help="ed25519: and 64 hexadecimal digits, as `keys new` prints it")],
    role: Annotated[str, typer.Option(help="what the guardian is there for")],
    archetype: Annotated[str, typer.Option(help="the stance it takes")],
    description: Annotated[str, typer.Option(help="for readers of the registry")] = "",
    bandwidth_quota_bps: Annotated[int, typer.Option(min=1, max=MAX_QUOTA_BPS, help="bit/s over all its calls")] = 2_000_000,
    specialization: Annotated[list[str] | None, typer.Option(help="may be given more than once")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="a further alias to register with; more than once")] = None,
    veto: Annotated[bool, typer.Option("--veto", help="may veto")] = False,
    as_json: AsJson = False,
) -> None:
    """Append an active guardian; comments in the file stay."""
    guardian = Guardian(
        terminal_id=terminal_id,
        public_key=parse_public_key(public_key),
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
    _report(add_guardian(file, guardian), terminal_id, as_json=as_json)


@app.command()
def suspend(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Keep a guardian out until it is reinstated."""
    _report(set_status(file, terminal_id, GuardianStatus.SUSPENDED), terminal_id, as_json=as_json)


@app.command()
def reinstate(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Lift a suspension."""
    _report(set_status(file, terminal_id, GuardianStatus.ACTIVE), terminal_id, as_json=as_json)


@app.command()
def revoke(file: File, terminal_id: TerminalId, as_json: AsJson = False) -> None:
    """Keep a guardian out for good."""
    _report(set_status(file, terminal_id, GuardianStatus.REVOKED), terminal_id, as_json=as_json)


def _report(registry: Registry, terminal_id: str, *, as_json: bool) -> None:
    guardian = next(guardian for guardian in registry if guardian.terminal_id == terminal_id)
    if as_json:
        _print_json({"digest": registry.digest, "guardian": as_entry(guardian)})
    else:
        typer.echo(f"{terminal_id} is {guardian.status.value}; a running daemon takes it over at SIGHUP")


def _print_json(value: dict[str, object]) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=datetime.isoformat))
