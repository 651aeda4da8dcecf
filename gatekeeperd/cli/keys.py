"""``councilctl keys``: make an Ed25519 key for a guardian or for the service, and look at one.

What lives here: arguments and what gets printed. What never does: the file itself (``security.keys``), and printing
anything of a private key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.registry import TerminalId
from gatekeeperd.security.keys import KeyPair, create_key_file, format_public_key, load_key_file

app = typer.Typer(name="keys", no_args_is_help=True, help="Make Ed25519 keys and look at them.")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def new(
    out: Annotated[Path, typer.Option(metavar="FILE", help="the key file to make; one that is there is never overwritten")],
    terminal_id: Annotated[
        str | None, typer.Option(metavar="TERMINAL_ID", help="whose it is, e.g. if://guardian/technical")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key that its owner alone can read, and print what the registry needs of it."""
    if terminal_id is not None:
        _check(terminal_id)
    pair = KeyPair.generate(terminal_id)
    create_key_file(out, pair)
    _print(out, pair, as_json=as_json)


@app.command()
def show(file: Annotated[Path, typer.Argument(metavar="FILE", help="a key file")], as_json: AsJson = False) -> None:
    """Print the public key, the key id and the terminal_id of a key file."""
    _print(file, load_key_file(file), as_json=as_json)


def _check(terminal_id: str) -> None:
    """Refuse here what no registry would take."""
    try:
        TypeAdapter(TerminalId).validate_python(terminal_id)
    except ValidationError as error:
        wanted = "is no if://guardian/NAME (lower case letters, digits, and - . _ between them), e.g. if://guardian/technical"
        raise ConfigurationError(wanted, field="--terminal-id") from error


def _print(path: Path, pair: KeyPair, *, as_json: bool) -> None:
    facts = {
        "file": str(path),
        "terminal_id": pair.terminal_id,
        "public_key": format_public_key(pair.public),
        "key_id": pair.key_id.hex(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            if value is not None:
                typer.echo(f"{name}: {value}")
