"""``councilctl decode``: every RAS, Q.931/H.225.0 and H.245 message of a capture, and a check of our own codec on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from gatekeeperd.capture.check import Cause, Verdict, check
from gatekeeperd.capture.dissect import Dissector, Incomplete, Item, Pdu, Protocol, Undecoded
from gatekeeperd.capture.facts import facts, host_and_port, printable
from gatekeeperd.capture.files import read_frames
from gatekeeperd.errors import CaptureError
from gatekeeperd.wire import q931
from gatekeeperd.wire.q931_elements import named

_COLOURS: Final = {
    Protocol.RAS: "cyan",
    Protocol.Q931: "green",
    Protocol.H225: "bright_green",
    Protocol.H245: "magenta",
    Protocol.FAST_START: "bright_magenta",
}
#: Columns of a line before the protocol: frame, seconds, addresses. Wider addresses push the rest on.
_FRAME, _SECONDS, _ADDRESSES = 5, 10, 36
_INDENT: Final = _FRAME + _SECONDS + 2
_NAME: Final = 21
#: Where fewer columns are left for the details than this, they get lines of their own.
_LEAST_DETAILS: Final = 40
#: Octets of a field that a tree shows; the whole is in --json.
_SHOWN_OCTETS: Final = 32


class _Tally:
    """What was found, for the summary and the exit code."""

    def __init__(self) -> None:
        self.found: Counter[Protocol] = Counter()
        self.undecoded: Counter[Protocol] = Counter()
        self.changed: Counter[Protocol] = Counter()
        self.same: Counter[Protocol] = Counter()
        self.differing: Counter[Protocol] = Counter()
        self.causes: Counter[Cause] = Counter()
        self.incomplete = 0

    def add(self, item: Item, verdict: Verdict | None) -> None:
        if isinstance(item, Incomplete):
            self.incomplete += 1
        elif isinstance(item, Undecoded):
            self.undecoded[item.protocol] += 1
        else:
            self.found[item.protocol] += 1
            if verdict is not None and verdict.fault:
                self.changed[item.protocol] += 1
            elif verdict is not None and verdict.cause is not None:
                self.differing[item.protocol] += 1
                self.causes[verdict.cause] += 1
            elif verdict is not None:
                self.same[item.protocol] += 1

    @property
    def faulty(self) -> bool:
        return bool(self.undecoded or self.changed)


def decode(
    capture: Annotated[
        Path, typer.Argument(metavar="FILE.pcap", exists=True, dir_okay=False, readable=True, help="A pcap or pcapng file.")
    ],
    check_codec: Annotated[
        bool, typer.Option("--check", help="Encode each message again; exit 1 where its value changes or it does not decode.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, octets as hexadecimal digits.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every field of every message, as a tree.")] = False,
) -> None:
    """Print the RAS, Q.931/H.225 and H.245 messages of a capture, tunnelled and fastStart ones too."""
    tally = _Tally()
    dissector = Dissector()
    out = Console(highlight=False)
    lines = _Lines(out, verbose=verbose)
    damage: CaptureError | None = None
    try:
        for item in dissector.dissect(read_frames(capture)):
            verdict = check(item) if check_codec and isinstance(item, Pdu) else None
            tally.add(item, verdict)
            if as_json:
                typer.echo(json.dumps(_record(item, verdict)))
            else:
                lines.show(item, verdict)
    except CaptureError as error:
        # What came before the damage was printed and counts: a capture whose writer was killed is torn at its end.
        damage = error
    if as_json:
        typer.echo(json.dumps(_summary_record(tally, dissector, checked=check_codec)))
    elif damage is None or damage.frame is not None:  # else it is no capture, and there is nothing to sum up
        _summarise(out, tally, dissector, checked=check_codec)
    if damage is not None:
        Console(stderr=True, highlight=False).print(Text(f"error: {damage}", "bold red"), soft_wrap=True)
        raise typer.Exit(2)
    if check_codec and tally.faulty:
        raise typer.Exit(1)


class _Lines:
    """One line a message; what was within another stands below it, to the right."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._first: float | None = None

    def show(self, item: Item, verdict: Verdict | None) -> None:
        if self._first is None:
            self._first = item.origin.time
        head, details = self._head(item), Text()
        if isinstance(item, Pdu):
            head.append(f"{item.protocol.value:<6}", _COLOURS[item.protocol]).append(f" {self._name(item)}", "bold")
            details.append(" · ".join(facts(item)))
        elif isinstance(item, Undecoded):
            head.append(f"{item.protocol.value:<6}", _COLOURS[item.protocol]).append(" does not decode", "bold red")
            details.append(f"{printable(item.reason)} · {len(item.octets)} octets {item.octets[:16].hex()}")
        else:
            head.append("incomplete", "yellow")
            details.append(item.reason)
        if verdict is not None:
            _append_verdict(details, verdict)
        self._print(head, details)
        if self._verbose and isinstance(item, Pdu):
            self._console.print(Padding(_tree(item), (0, 0, 0, _INDENT)))

    @staticmethod
    def _name(pdu: Pdu) -> str:
        name = printable(pdu.name)
        return name if pdu.parent is not None else f"{name:<{_NAME}}"

    def _head(self, item: Item) -> Text:
        if not isinstance(item, Incomplete) and item.parent is not None:
            return Text(" " * _INDENT + "└ ")
        origin = item.origin
        addresses = f"{host_and_port(origin.source)} → {host_and_port(origin.destination)}"
        return Text.assemble(
            (f"{origin.frame:>{_FRAME}}", "dim"),
            f" {origin.time - (self._first or 0):>{_SECONDS}.6f} ",
            f" {addresses:<{_ADDRESSES}} ",
        )

    def _print(self, head: Text, details: Text) -> None:
        if not self._console.is_terminal:
            # One line a message, so that grep and cut find it whole.
            self._console.print(Text.assemble(head, "  ", details), soft_wrap=True)
        elif head.cell_len + _LEAST_DETAILS > self._console.width:
            self._console.print(head, overflow="fold")
            self._console.print(Padding(details, (0, 0, 0, _INDENT)))
        else:
            line = Table.grid(padding=(0, 2))
            line.add_column(no_wrap=True)
            line.add_row(head, details)
            self._console.print(line)


def _append_verdict(details: Text, verdict: Verdict) -> None:
    if verdict.fault is not None:
        details.append(f" · {printable(verdict.fault)}", "bold red")
    elif verdict.cause is Cause.UNEXPLAINED:
        details.append(" · octets differ, unexplained", "yellow")
    elif verdict.cause is not None:
        lengths = ", ".join(f"{theirs} of {ours}" for theirs, ours in verdict.bitmaps)
        details.append(f" · bitmap {lengths} bits" if lengths else " · padded", "dim")


def _tree(pdu: Pdu) -> Tree:
    tree = Tree("", hide_root=True, guide_style="dim")
    _grow(tree, _plain(pdu.value, _octets_and_text))
    return tree


def _grow(tree: Tree, value: Any) -> None:
    """Hang a plain value below ``tree``: a leaf on its label's own line, parts as branches."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [("", value)]
    for label, content in parts:
        key = Text(f"{label}", "bold")
        if isinstance(content, dict | list) and content:
            _grow(tree.add(key), content)
        else:
            tree.add(key if content is None else key.append(f"  {printable(str(content))}", "not bold"))


def _octets_and_text(octets: bytes) -> str:
    """Write octets for a person: digits, cut where they are many, and the text or the IPv4 address that they may be."""
    digits = octets[:_SHOWN_OCTETS].hex() + (f"… {len(octets)} octets" if len(octets) > _SHOWN_OCTETS else "")
    text = octets.rstrip(b"\0").decode("latin-1")
    if len(octets) == 4:
        return f"{digits}  {ip_address(octets)}"
    return f"{digits}  {text!r}" if len(text) > 1 and text.isascii() and text.isprintable() else digits


def _plain(value: Any, octets: Callable[[bytes], str] = bytes.hex) -> Any:
    """Turn a codec's value into what JSON has: a CHOICE becomes an object with one member, octets become text."""
    if isinstance(value, q931.Message):
        return {
            "messageType": value.name,
            "callReference": value.call_reference,
            "fromDestination": value.from_destination,
            "elements": [_element(element, octets) for element in value.elements],
        }
    if isinstance(value, bytes):
        return octets(value)
    if isinstance(value, dict):
        return {field: _plain(content, octets) for field, content in value.items()}
    if isinstance(value, list):
        return [_plain(content, octets) for content in value]
    if isinstance(value, tuple) and isinstance(value[0], str):
        return {value[0]: _plain(value[1], octets)}
    if isinstance(value, tuple) and len(value) == 2:
        number, width = value  # BIT STRING; no object identifier in use has two arcs
        return f"{number:0{width}b}" if width else ""
    return ".".join(map(str, value)) if isinstance(value, tuple) else value


def _element(element: q931.InformationElement, octets: Callable[[bytes], str]) -> dict[str, Any]:
    known = named(q931.Identifier, element.identifier)
    return {
        "identifier": f"0x{element.identifier:02x}",
        "name": known.name.lower() if isinstance(known, q931.Identifier) else None,
        "contents": None if element.contents is None else octets(element.contents),
    }


def _record(item: Item, verdict: Verdict | None) -> dict[str, Any]:
    origin = item.origin
    record: dict[str, Any] = {
        "type": type(item).__name__.lower(),
        "frame": origin.frame,
        "time": datetime.fromtimestamp(origin.time, UTC).isoformat(timespec="microseconds"),
        "source": host_and_port(origin.source),
        "destination": host_and_port(origin.destination),
    }
    if isinstance(item, Incomplete):
        return record | {"reason": item.reason}
    record |= {"protocol": item.protocol.value, "parent": item.parent, "octets": item.octets.hex()}
    if isinstance(item, Undecoded):
        return record | {"reason": item.reason}
    record |= {"index": item.index, "name": item.name, "value": _plain(item.value)}
    if verdict is not None:
        cause = verdict.cause.name.lower() if verdict.cause else None
        record["check"] = {"fault": verdict.fault, "cause": cause, "bitmaps": [list(pair) for pair in verdict.bitmaps]}
    return record


def _summary_record(tally: _Tally, dissector: Dissector, *, checked: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "type": "summary",
        "pdus": {protocol.value: tally.found[protocol] for protocol in Protocol},
        "undecoded": tally.undecoded.total(),
        "incomplete": tally.incomplete,
        "otherDatagrams": dissector.other_datagrams,
        "otherSegments": dissector.other_segments,
        "unreadFrames": dissector.unread_frames,
    }
    if checked:
        causes = {cause.name.lower(): count for cause, count in tally.causes.items()}
        record["check"] = {"changed": tally.changed.total(), "differing": tally.causes.total(), "causes": causes}
    return record


def _summarise(out: Console, tally: _Tally, dissector: Dissector, *, checked: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    table.add_column("")
    for heading in ("PDUs", "undecoded", *(("equal octets", "other octets", "value changed") if checked else ())):
        table.add_column(heading, justify="right")
    for protocol in Protocol:
        if tally.found[protocol] or tally.undecoded[protocol]:
            table.add_row(Text(protocol.value, _COLOURS[protocol]), *_counts(tally, [protocol], checked=checked))
    table.add_row("total", *_counts(tally, list(Protocol), checked=checked), style="bold")
    out.print()
    out.print(table)
    for cause, count in tally.causes.most_common():
        style = "yellow" if cause is Cause.UNEXPLAINED else ""
        out.print(Text(f"{count} with other octets: {cause.value}", style), soft_wrap=not out.is_terminal)
    if checked:
        out.print(_conclusion(tally))
    notes = {
        "incomplete in the capture": tally.incomplete,
        "other UDP datagrams (media and the like)": dissector.other_datagrams,
        "TCP segments of connections that no message told of": dissector.other_segments,
        "frames that could not be read": dissector.unread_frames,
    }
    passed_over = ", ".join(f"{count} {what}" for what, count in notes.items() if count)
    if passed_over:
        out.print(Text(f"passed over: {passed_over}", "dim"), soft_wrap=not out.is_terminal)


def _conclusion(tally: _Tally) -> Text:
    if tally.faulty:
        changed, undecoded = tally.changed.total(), tally.undecoded.total()
        return Text(f"check failed: {changed} values change, {undecoded} messages do not decode", "bold red")
    return Text(f"check passed: all {tally.found.total()} values survive", "green")


def _counts(tally: _Tally, protocols: list[Protocol], *, checked: bool) -> list[str]:
    columns = [tally.found, tally.undecoded]
    if checked:
        columns += [tally.same, tally.differing, tally.changed]
    return [str(sum(column[protocol] for protocol in protocols)) for column in columns]
