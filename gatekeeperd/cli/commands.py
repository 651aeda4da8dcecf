"""All commands of ``councilctl`` under one root.

What lives here: the list, and ``--version``. What never does: a command; each has a module beside this one.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gatekeeperd import __version__
from gatekeeperd.cli import keys, registry, sessions, witness
from gatekeeperd.cli.admit import admit
from gatekeeperd.cli.decode import decode
from gatekeeperd.cli.join import join

app = typer.Typer(
    name="councilctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(join)
app.command()(admit)
app.command()(decode)
app.add_typer(keys.app, name="keys")
app.add_typer(registry.app, name="registry")
app.add_typer(sessions.app, name="sessions")
app.add_typer(witness.app, name="witness")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"councilctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Councilctl is what guardians, auditors and operators of the Guardian Council type."""
