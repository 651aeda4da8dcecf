"""``councilctl join``: be a guardian's terminal from a shell.

What lives here: arguments, what a guardian reads, and when to leave. What never does: RAS (``gatekeeperd.terminal``).
The terminal registers, asks for the call, keeps both alive until Ctrl-C, then disengages and unregisters. No media yet:
it holds the guardian's place and proves that the council would take the call.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.text import Text

from gatekeeperd.cli.key_options import private_key_file, public_key_file, public_key_given
from gatekeeperd.core.actions import TransportAddress
from gatekeeperd.errors import ConfigurationError, TerminalError
from gatekeeperd.security.credential import CallType
from gatekeeperd.terminal.calls import CallRequest
from gatekeeperd.terminal.events import (
    NO_ANSWER,
    Admitted,
    BandwidthChanged,
    Discovered,
    Disengaged,
    Event,
    KeptAlive,
    Lost,
    Party,
    Refused,
    Registered,
    RegistrationRefused,
    Unreachable,
    Unregistered,
)
from gatekeeperd.terminal.settings import DISCOVERY_GROUP, EndpointSettings
from gatekeeperd.terminal.states import State
from gatekeeperd.terminal.udp import Terminal

RAS_PORT = 1719
CALL_SIGNAL_PORT = 1720

_LEAVE = (signal.SIGINT, signal.SIGTERM)

_LOOKING = "looking for a gatekeeper; Ctrl-C leaves"

#: What a guardian can do about a refusal.
_ADVICE = {
    "INVALID_SIGNATURE": "The registry holds another public key for this terminal_id: compare it with `councilctl keys show`.",
    "NOT_REGISTERED": "The registry does not list this terminal_id as active: ask the operator (`councilctl registry list`).",
    "PII_POLICY_VIOLATION": "Leave personal data out of names and of ESCALATE calls.",
    "BANDWIDTH_EXCEEDED": "Ask for less (--bandwidth), or end another call first.",
    "CAPACITY_EXCEEDED": "The council is full. Try again when somebody has left.",
    "GATEKEEPER_ERROR": "Check the destination (--call).",
    "calledPartyNotRegistered": "Nobody is registered under that name: check --call.",
    NO_ANSWER: "Is gatekeeperd running, is that its address (--gatekeeper), and does the network carry port 1719/udp?",
}
#: The same where the detail names a rule, for which the reason's advice would be wrong.
_ADVICE_FOR_RULE = {
    "calls_per_guardian": "End another call of this guardian, or let its vouchers expire: they count too (`councilctl sessions`)."
}


class Urgency(StrEnum):
    """Call types as typed on a command line."""

    ROUTINE = "ROUTINE"
    ESCALATE = "ESCALATE"
    EMERGENCY = "EMERGENCY"


def join(
    *,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The guardian's key file (`councilctl keys new`).")],
    gatekeeper: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDR[:PORT]", help="Whom to ask; may be given more than once. Without, the local network."),
    ] = None,
    service_key: Annotated[
        str | None, typer.Option(metavar="ed25519:HEX", help="The service's public key, as the operator gave it to you.")
    ] = None,
    service_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same from a file (the daemon's service.pub).")
    ] = None,
    terminal_id: Annotated[
        str | None, typer.Option(help="e.g. if://guardian/technical; by default whose the key file says that it is.")
    ] = None,
    call: Annotated[str | None, typer.Option(metavar="ALIAS", help="Whom to call, e.g. council; without, only register.")] = None,
    call_type: Annotated[Urgency, typer.Option(case_sensitive=False, help="How urgent it is.")] = Urgency.ROUTINE,
    bandwidth: Annotated[int, typer.Option(metavar="BIT/S", min=100, help="Both directions summed.")] = 1_000_000,
    pii: Annotated[bool, typer.Option("--pii", help="Declare that the call will contain personal data.")] = False,
    alias: Annotated[list[str] | None, typer.Option(help="A further H.323 alias; may be given more than once.")] = None,
    bind: Annotated[str, typer.Option(metavar="ADDR[:PORT]", help="Local address.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each event.")] = False,
) -> None:
    """Register as a guardian, be admitted or told why not, and stay until Ctrl-C."""
    if call == "":
        raise ConfigurationError("is empty: whom to call? Without the option, the terminal only registers", field="--call")
    pair = private_key_file(key)
    who = terminal_id or pair.terminal_id
    if who is None:
        raise ConfigurationError("names no terminal_id: give --terminal-id", path=key)
    if service_key_file is not None:
        service = public_key_file(service_key_file, "--service-key-file")
    elif service_key is not None:
        service = public_key_given(service_key, "--service-key")
    else:
        raise ConfigurationError("give --service-key or --service-key-file: without one, anybody could pose as the service")
    gatekeepers = tuple(_resolve(each, RAS_PORT) for each in gatekeeper or ()) or (DISCOVERY_GROUP,)
    any_address = "::" if ":" in gatekeepers[0][0] else "0.0.0.0"  # noqa: S104  one gatekeeper's answers alone count
    local = _resolve(bind or any_address, 0)
    settings = EndpointSettings(
        terminal_id=who,
        key=pair,
        service_keys=(service,),
        gatekeepers=gatekeepers,
        ras_address=local,
        call_signal_address=(local[0], CALL_SIGNAL_PORT),
        aliases=tuple(alias or ()),
    )
    request = None
    if call is not None:
        request = CallRequest(
            destination=call, bandwidth_bps=bandwidth // 100 * 100, call_type=CallType[call_type.value], has_pii=pii
        )
    raise typer.Exit(asyncio.run(_attend(settings, request, _Narrator(as_json=as_json))))


async def _attend(settings: EndpointSettings, request: CallRequest | None, narrator: _Narrator) -> int:
    """Register, call, wait, leave. Returns the exit code: 0 left by own will, 1 refused or put out."""
    news: asyncio.Queue[Event | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in _LEAVE:
        loop.add_signal_handler(number, news.put_nowait, None)

    def hear(event: Event) -> None:
        narrator.tell(event)
        news.put_nowait(event)

    terminal = await Terminal.open(settings, on_event=hear)
    try:
        with narrator:
            registering = asyncio.ensure_future(terminal.discover_and_register())
            code = await _stay(terminal, request, news)
            registering.cancel()
        # A second Ctrl-C does not wait for a gatekeeper that no longer answers.
        for number in _LEAVE:
            loop.remove_signal_handler(number)
        await _leave(terminal)
    finally:
        terminal.close()
    return code


async def _stay(terminal: Terminal, request: CallRequest | None, news: asyncio.Queue[Event | None]) -> int:
    """Call whenever there is a new registration, until somebody wants an end to it."""
    calling: asyncio.Future[Any] | None = None
    try:
        while (event := await news.get()) is not None:
            match event:
                case Registered(resumed=False) if request is not None:
                    calling = asyncio.ensure_future(terminal.admit(request))
                case RegistrationRefused() | Refused() | Unregistered() | Unreachable(retry_in_s=None):
                    return 1
                case Disengaged(by=Party.GATEKEEPER):
                    return 1
    finally:
        if calling is not None:
            calling.cancel()
    return 0


async def _leave(terminal: Terminal) -> None:
    if terminal.endpoint.state is State.REGISTERED:
        for call in terminal.endpoint.admitted:
            await terminal.disengage(call)
    if terminal.endpoint.state is not State.IDLE:
        await terminal.unregister()


class _Narrator:
    """Tells events: a line each, with a status line below on a terminal; or JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False)
        self._status = self._console.status(_LOOKING, spinner="dots")

    def __enter__(self) -> Self:
        if not self._as_json and self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def tell(self, event: Event) -> None:
        """Print ``event``, or show it in the status line."""
        if self._as_json:
            facts = {name: value.value if isinstance(value, Party) else value for name, value in asdict(event).items()}
            typer.echo(json.dumps({"time": datetime.now(UTC).isoformat(), "event": type(event).__name__} | facts))
            return
        match event:
            case KeptAlive():
                self._status.update(f"kept alive at {datetime.now().astimezone():%H:%M:%S}; Ctrl-C leaves")
            case Registered():
                self._status.update("registered; Ctrl-C leaves")
            case Admitted():
                self._status.update("in the call; Ctrl-C leaves")
            case Disengaged():
                self._status.update("no longer in the call; Ctrl-C leaves")
            case Lost() | Unreachable():
                self._status.update(_LOOKING)
        line = _news(event) or _trouble(event)
        if line is not None:
            self._console.print(line, soft_wrap=True)


def _news(event: Event) -> Text | None:
    match event:
        case Discovered():
            return _text("", f"{event.gatekeeper_identifier} answers at {_place(event.address)}")
        case Registered():
            how = "carried on" if event.resumed else "registered"
            return _text("green", f"{how} with {event.gatekeeper_identifier} at {_place(event.address)}, which proved its key")
        case Admitted():
            rate = f"{event.bandwidth_bps / 1e6:g} Mbit/s"
            return _text("green", f"admitted with {rate}; signalling to {_place(event.address)} ({event.call_model})")
        case BandwidthChanged():
            return _text("yellow", f"the {event.by.value} set the bandwidth to {event.bandwidth_bps / 1e6:g} Mbit/s")
        case Disengaged():
            return _text("yellow", f"call over ({event.by.value}: {event.reason})")
        case Unregistered():
            reason = event.reason
            if event.by is Party.GATEKEEPER and reason == "undefinedReason":  # H.225.0 has no word for it
                reason = "another terminal registered as this guardian"
            return _text("yellow", f"unregistered ({event.by.value}{': ' + reason if reason else ''})")
    return None


def _trouble(event: Event) -> Text | None:
    match event:
        case RegistrationRefused():
            return _refusal("registration refused", event.reason, event.detail)
        case Refused():
            return _refusal("call refused", event.reason, event.detail)
        case Lost():
            return _text("red", f"lost {_place(event.address)} ({event.reason}); looking for a gatekeeper")
        case Unreachable():
            return _unreachable(event)
    return None


def _unreachable(event: Unreachable) -> Text:
    then = "" if event.retry_in_s is None else f"; trying again in {event.retry_in_s:g} s"
    if event.unproven:
        who = ", ".join(map(_place, event.unproven))
        return _text("red", f"{who} could not prove to hold the service key: is it the right one? (--service-key){then}")
    text = _text("red", f"no gatekeeper answers at {', '.join(map(_place, event.tried))}{then}")
    return text if then else text.append(f"\n  {_ADVICE[NO_ANSWER]}", style="default")


def _refusal(what: str, reason: str, detail: str) -> Text:
    text = _text("red", f"{what}: ").append(reason, style="bold red")
    if detail:
        text.append(f" ({detail})", style="red")
    advice = _ADVICE_FOR_RULE.get(detail.partition(" ")[0]) or _ADVICE.get(reason)
    if advice:
        text.append(f"\n  {advice}", style="default")
    return text


def _text(style: str, text: str) -> Text:
    # What a gatekeeper says is not markup, and must not move the cursor.
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text), style=style)


def _place(address: TransportAddress) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(text: str, default_port: int) -> TransportAddress:
    """Return the address of ``HOST``, ``HOST:PORT``, an IPv6 literal or ``[IPv6]:PORT``.

    Raises:
        TerminalError: it is none, or the name has no address.

    """
    host, port = text, str(default_port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port.isdigit() or int(port) > 65535:
        raise TerminalError(f"{text}: {port} is no port")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise TerminalError(f"{host}: {error.strerror}") from error
    address = found[0][4]
    return str(address[0]), int(address[1])
