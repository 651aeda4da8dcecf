"""``councilctl sessions``: what is admitted, and an end to it.

What lives here: arguments, tables, and the choice of credential (an operator's token or a guardian's key). What never
does: HTTP (``cli.api_client``) and the form of signatures (``net.signed_request``).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeperd.cli.api_client import DEFAULT_URL, ApiClient, AsJson, Ca, Insecure, Reply, Url
from gatekeeperd.config import read_secret
from gatekeeperd.errors import ApiError, ConfigurationError
from gatekeeperd.net.signed_request import sign_request
from gatekeeperd.security.keys import load_key_file

app = typer.Typer(name="sessions", help="List sessions and end them.")

TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="GATEKEEPERD_TOKEN_FILE", metavar="FILE", help="an operator's API token, alone in a file of mode 0600"),
]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="a guardian's key file instead: its own sessions only")]

_LIST = "/api/admission/sessions"


@app.callback(invoke_without_command=True)
def list_sessions(
    context: typer.Context,
    token_file: TokenFile = None,
    key: Key = None,
    url: Url = DEFAULT_URL,
    ca: Ca = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """List the admissions in force."""
    if context.invoked_subcommand is not None:
        return
    reply = ApiClient(url, ca, insecure).request("GET", _LIST, headers=_credential("GET", _LIST, token_file, key))
    _refuse_failure(reply)
    if as_json:
        typer.echo(json.dumps(reply.body, indent=2))
        return
    shown, total = reply.body["sessions"], reply.body["total"]
    table = Table("session", "guardian", "kind", "state", "call type", "Mbit/s", "alias", "for", title=f"{len(shown)} of {total}")
    for session in shown:
        table.add_row(
            session["session_id"],
            Text(session["terminal_id"] or "unsigned"),
            session["kind"],
            session["state"],
            session["call_type"],
            f"{session['bandwidth_bps'] / 1e6:.3f}",
            Text(session["endpoint_alias"]),
            f"{session['started_s']} s",
        )
    Console().print(table)


@app.command()
def revoke(
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    token_file: TokenFile = None,
    key: Key = None,
    url: Url = DEFAULT_URL,
    ca: Ca = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """End one session; its terminal is disengaged or unregistered."""
    path = f"/api/admission/session/{session_id}"
    reply = ApiClient(url, ca, insecure).request("DELETE", path, headers=_credential("DELETE", path, token_file, key))
    _refuse_failure(reply)
    typer.echo(json.dumps(reply.body, indent=2) if as_json else f"{session_id}: ended")


def _credential(method: str, path: str, token_file: Path | None, key: Path | None) -> dict[str, str]:
    if token_file is not None:
        return {"Authorization": f"Bearer {read_secret(token_file).strip()}"}
    if key is not None:
        return sign_request(method, path, load_key_file(key), timestamp=int(time.time()))
    raise ConfigurationError("give --token-file or --key: sessions are not for everybody")


def _refuse_failure(reply: Reply) -> None:
    if not reply.succeeded:
        raise ApiError(f"{reply.body.get('reason')}: {reply.body.get('detail')}")
