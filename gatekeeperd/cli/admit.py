"""``councilctl admit``: a guardian vouches for a terminal that can't sign.

What lives here: arguments, the signed request, the table of its answer. What never does: the signature's form
(``security.vouch``) and HTTP (``cli.api_client``).
"""

from __future__ import annotations

import json
import secrets
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeperd.cli.api_client import DEFAULT_URL, ApiClient, AsJson, Ca, Insecure, Reply, Url
from gatekeeperd.cli.key_options import private_key_file
from gatekeeperd.errors import ConfigurationError
from gatekeeperd.policy.gates import CallType
from gatekeeperd.security.vouch import sign_vouch

#: Fields of the request by the option that they come from.
_OPTIONS = {
    "terminal_id": "--terminal-id",
    "call_id": "--call-id",
    "bandwidth_bps": "--bandwidth-bps",
    "endpoint_alias": "--alias",
    "endpoint_address": "--address",
}


class CallTypeName(StrEnum):
    """The call types as the API spells them."""

    ROUTINE = CallType.ROUTINE.name
    ESCALATE = CallType.ESCALATE.name
    EMERGENCY = CallType.EMERGENCY.name


def admit(
    key: Annotated[Path, typer.Option(metavar="FILE", help="the guardian's key file; it says whose it is")],
    alias: Annotated[str, typer.Option(help="the terminal's H.323 alias")],
    address: Annotated[str, typer.Option(metavar="ADDRESS[:PORT]", help="where the terminal registers from")],
    call_id: Annotated[str, typer.Option(help="the conference that it may join")] = "council",
    call_type: Annotated[CallTypeName, typer.Option(case_sensitive=False)] = CallTypeName.ROUTINE,
    bandwidth_bps: Annotated[int, typer.Option(min=0, help="bit/s, both directions summed")] = 512_000,
    pii: Annotated[bool, typer.Option("--pii/--no-pii", help="declare that personal data will be shown")] = False,
    terminal_id: Annotated[str | None, typer.Option(metavar="TERMINAL_ID", help="where the key file does not say it")] = None,
    url: Url = DEFAULT_URL,
    ca: Ca = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Vouch for a room system: it may register under its alias from its address, and place a call, for a short time."""
    pair = private_key_file(key)
    guardian = terminal_id or pair.terminal_id
    if guardian is None:
        raise ConfigurationError("the key file names no terminal_id; give --terminal-id", path=key)
    body = {
        "terminal_id": guardian,
        "call_id": call_id,
        "call_type": call_type.value,
        "bandwidth_bps": bandwidth_bps,
        "has_pii": pii,
        "timestamp": int(time.time()),
        "nonce": secrets.token_hex(16),
        "endpoint_alias": alias,
        "endpoint_address": address,
    }
    reply = ApiClient(url, ca, insecure).request("POST", "/api/admission/request", body=sign_vouch(body, pair))
    if as_json:
        typer.echo(json.dumps({"status": reply.status, **reply.body}, indent=2))
    else:
        Console(soft_wrap=True).print(_table(reply))
    if not reply.succeeded:
        raise typer.Exit(1)


def _table(reply: Reply) -> Table:
    facts: dict[str, Any] = dict(reply.body)
    gates = facts.pop("gates", [])
    title = Text("admitted", style="green") if reply.succeeded else Text(f"refused ({reply.status})", style="red")
    table = Table("", "", title=title, show_header=False)
    if facts.get("field") in _OPTIONS:
        facts["field"] = f"{facts['field']} ({_OPTIONS[facts['field']]})"
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    for gate in gates:
        table.add_row(f"gate: {gate['gate']}", Text(f"{gate['rule']} {gate['detail']}".strip()))
    return table
