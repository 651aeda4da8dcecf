"""``councilctl sessions``: what is admitted, and an end to it.

What lives here: arguments, tables, and the choice of credential (an operator's token or a guardian's key). What never
does: HTTP (``cli.api_client``) and the form of signatures (``net.signed_request``).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from gatekeeperd.cli.api_client import DEFAULT_URL, ApiClient, AsJson, Ca, Insecure, Reply, Url
from gatekeeperd.cli.key_options import private_key_file
from gatekeeperd.config import read_secret
from gatekeeperd.errors import ApiError, ConfigurationError
from gatekeeperd.net.signed_request import sign_request

app = typer.Typer(name="sessions", help="List sessions and end them.")

TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="GATEKEEPERD_TOKEN_FILE", metavar="FILE", help="an operator's API token, alone in a file of mode 0600"),
]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="a guardian's key file instead: its own sessions only")]

_LIST = "/api/admission/sessions"
#: Digits of an id that the table shows, of its 32; and of how many on it is looked for.
_SHOWN: Final = 12
_LEAST: Final = 6
_WHOLE: Final = 32


@dataclass(frozen=True, slots=True)
class _Access:
    """Where the API is, and what proves that one may use it."""

    token_file: Path | None
    key: Path | None
    url: str
    ca: Path | None
    insecure: bool

    def request(self, method: str, path: str) -> Reply:
        """Send one request. Raises ApiError for a refusal too."""
        reply = ApiClient(self.url, self.ca, self.insecure).request(method, path, headers=self._credential(method, path))
        if not reply.succeeded:
            raise ApiError(f"{reply.body.get('reason')}: {reply.body.get('detail')}")
        return reply

    def _credential(self, method: str, path: str) -> dict[str, str]:
        if self.token_file is not None:
            return {"Authorization": f"Bearer {read_secret(self.token_file).strip()}"}
        if self.key is not None:
            return sign_request(method, path, private_key_file(self.key), timestamp=int(time.time()))
        raise ConfigurationError("give --token-file or --key: sessions are not for everybody")


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
    access = _Access(token_file, key, url, ca, insecure)
    if context.invoked_subcommand is not None:
        context.obj = access
        return
    reply = access.request("GET", _LIST)
    if as_json:
        typer.echo(json.dumps(reply.body, indent=2))
        return
    shown, total = reply.body["sessions"], reply.body["total"]
    table = Table(
        Column("session", no_wrap=True, min_width=_SHOWN),
        *("guardian", "kind", "state", "call type", "Mbit/s", "alias", "for"),
        title=f"{len(shown)} of {total}",
        caption="the first digits of a session are enough for `sessions revoke`" if shown else None,
    )
    for session in shown:
        table.add_row(
            session["session_id"][:_SHOWN],
            Text((session["terminal_id"] or "unsigned").removeprefix("if://guardian/")),
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
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="its first digits are enough, six at least")],
    token_file: TokenFile = None,
    key: Key = None,
    url: Url = DEFAULT_URL,
    ca: Ca = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """End one session; its terminal is disengaged or unregistered. Options may stand before `revoke` too."""
    access = _overridden(context, _Access(token_file, key, url, ca, insecure))
    whole = session_id if len(session_id) >= _WHOLE else _resolve(access, session_id)
    reply = access.request("DELETE", f"/api/admission/session/{whole}")
    as_json = as_json or (context.parent is not None and context.parent.params["as_json"])
    typer.echo(json.dumps(reply.body, indent=2) if as_json else f"{whole}: ended")


def _overridden(context: typer.Context, options: _Access) -> _Access:
    """Return what was given before ``revoke``, with ``options`` in place of what was given again behind it."""
    given: dict[str, Any] = {}
    for name in ("token_file", "key", "url", "ca", "insecure"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given[name] = getattr(options, name)
    if "key" in given or "token_file" in given:  # one credential takes the other's place
        given = {"key": None, "token_file": None} | given
    group: _Access = context.obj
    return replace(group, **given)


def _resolve(access: _Access, start: str) -> str:
    """Return the id of the one session whose id starts so. Raises ApiError for none and for several."""
    if len(start) < _LEAST:
        raise ConfigurationError(f"give {_LEAST} digits at least", field="SESSION_ID")
    body = access.request("GET", _LIST).body
    if len(body["sessions"]) < body["total"]:
        raise ApiError(f"there are more sessions than are listed: give all {_WHOLE} digits (`sessions --json`)")
    found = [session["session_id"] for session in body["sessions"] if session["session_id"].startswith(start)]
    if len(found) > 1:
        raise ApiError(f"{start} is ambiguous, give more digits: {', '.join(found)}")
    if not found:
        raise ApiError(f"NOT_FOUND: no session starts with {start}")
    return str(found[0])
