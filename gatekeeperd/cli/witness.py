"""``councilctl witness``: prove that a log is as its node wrote it, and read it.

What lives here: arguments, tables, exit codes. What never does: judgement (``witness.verify``).
"""

from __future__ import annotations

import heapq
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from nacl.signing import VerifyKey
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gatekeeperd.cli.key_options import public_key_file, public_key_given
from gatekeeperd.core.actions import Stream
from gatekeeperd.errors import ConfigurationError, WitnessError
from gatekeeperd.security.keys import format_public_key, parse_public_key
from gatekeeperd.witness.chain import Head, read_line
from gatekeeperd.witness.files import KEY_FILE, Line, Snapshot, snapshot
from gatekeeperd.witness.findings import Gravity, Kind, Report
from gatekeeperd.witness.verify import CHECKPOINT_SECONDS, verify

app = typer.Typer(name="witness", no_args_is_help=True, help="Verify the witness log and read it.")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="the log's directory: it holds h323_witness, gateway and ha")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]

#: A log below this many octets is read before a progress bar could be looked at.
_LONG_LOG: Final = 20_000_000
_FOLLOW_SECONDS: Final = 0.5
_STYLES: Final = {Gravity.TAMPERING: "bold red", Gravity.IRREGULAR: "yellow", Gravity.NOTICE: "dim"}


@app.command("verify")
def verify_log(
    directory: Directory,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="the node's public key, from where you trust it: a file, or ed25519:HEX")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="INDEX:HASH", help="a head that somebody independent holds: shows whether the end was cut"),
    ] = None,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="a record that waited longer than this for its signed checkpoint is reported")
    ] = CHECKPOINT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Find and name every altered, removed, inserted, reordered, duplicated or cut-off record.

    Exit code 0: verified; 1: something is wrong with the log; 2: there is no log, or no key, to verify with.
    """
    try:
        log = snapshot(directory)
        if not log.files and log.head is None:
            inside = [path for path in (directory / "witness", directory.parent) if snapshot(path).files]
            raise WitnessError(f"{directory} holds no witness log" + "".join(f"; did you mean {path}?" for path in inside))
        public = _public_key(key, log)
        report = _verify(log, VerifyKey(public), _head(head), checkpoint_seconds, quiet=as_json)
    except (WitnessError, ConfigurationError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(_as_json(report, public, trusted=key is not None), indent=2))
    else:
        _print(report, directory, public, trusted=key is not None)
    if not report.verified:
        raise typer.Exit(1)


@app.command()
def show(
    directory: Directory,
    event: Annotated[str | None, typer.Option(help="only records of this event")] = None,
    trace: Annotated[str | None, typer.Option(help="only records whose trace_id starts so")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on with new records until interrupted")] = False,
    as_json: AsJson = False,
) -> None:
    """Print records in the order of the chain. Nothing is verified but each record's own hash."""
    read: dict[str, int] = {}
    try:
        while True:
            for record in _records(snapshot(directory), read):
                if (event is None or record["event"] == event) and (trace is None or str(record["trace_id"]).startswith(trace)):
                    typer.echo(json.dumps(record) if as_json else _one_line(record))
            if not follow:
                return
            time.sleep(_FOLLOW_SECONDS)
    except (WitnessError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        return


def _public_key(given: str | None, log: Snapshot) -> bytes:
    if given is None:
        if log.key is None:
            raise WitnessError(f"{log.directory / KEY_FILE} is missing: give the node's public key with --key")
        return parse_public_key(log.key.decode(errors="replace"))
    return public_key_given(given, "--key") if given.startswith("ed25519:") else public_key_file(Path(given), "--key")


def _head(given: str | None) -> Head | None:
    if given is None:
        return None
    match = re.fullmatch(r"(\d{1,16}):([0-9a-f]{64})", given)
    if match is None:
        raise ConfigurationError("a head is INDEX:HASH, the hash being 64 hexadecimal digits", field="--head")
    return Head(int(match[1]), match[2])


def _verify(log: Snapshot, key: VerifyKey, witnessed: Head | None, seconds: float, *, quiet: bool) -> Report:
    bar = Progress(
        "verifying", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    bar.disable = quiet or log.size < _LONG_LOG
    with bar:
        task = bar.add_task("verifying", total=log.size)
        return verify(
            [log.lines(stream) for stream in Stream],
            key=key,
            head=log.head,
            anchor=log.anchor,
            witnessed=witnessed,
            checkpoint_seconds=seconds,
            progress=lambda octets: bar.update(task, completed=octets),
        )


def _as_json(report: Report, public: bytes, *, trusted: bool) -> dict[str, Any]:
    return {
        "verified": report.verified,
        "tampered": report.tampered,
        "records": report.records,
        "checkpoints": report.checkpoints,
        "first": report.first,
        "head": None if report.head is None else asdict(report.head),
        "signed": report.signed,
        "public_key": format_public_key(public),
        "public_key_trusted": trusted,
        "findings": [
            {**asdict(finding), "kind": finding.kind.value, "gravity": finding.kind.gravity.value} for finding in report.findings
        ],
        "findings_not_listed": report.unlisted,
    }


def _print(report: Report, directory: Path, public: bytes, *, trusted: bool) -> None:
    console = Console(soft_wrap=True)
    if not trusted:
        console.print(
            Text(
                f"The key is the one in {directory / KEY_FILE}: who can replace the log can replace it too. "
                f"Compare {format_public_key(public)} with what the node's operator tells you, and give it with --key.",
                style="yellow",
            )
        )
    if report.findings:
        table = Table("finding", "record", "place", "what")
        for finding in report.findings:
            place = finding.file or ""
            table.add_row(
                Text(finding.kind.value, style=_STYLES[finding.kind.gravity]),
                "" if finding.index is None else str(finding.index),
                Text(place if finding.line is None else f"{place}:{finding.line}"),
                Text(finding.detail),
            )
        console.print(table)
    if report.unlisted:
        console.print(f"and {report.unlisted} more")
    last = report.head.index if report.head else report.first - 1
    facts = f"{report.records} records ({report.first} to {last}), {report.checkpoints} checkpoints, signed to {report.signed}"
    if report.verified:
        console.print(Text(f"verified: {facts}", style="green"))
    else:
        other_key = any(finding.kind is Kind.OTHER_KEY for finding in report.findings)
        verdict = "TAMPERED" if report.tampered else "NOT VERIFIED, another key" if other_key else "IRREGULAR"
        console.print(Text(f"{verdict}: {facts}", style="bold red" if report.tampered else "yellow"))


def _records(log: Snapshot, read: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the records that are new since ``read`` (octets by file), and bring it up to date."""
    streams = [_intact(log.lines(stream, dict(read)), read) for stream in Stream]
    return heapq.merge(*streams, key=lambda record: int(record["index"]))


def _intact(lines: Iterator[Line], read: dict[str, int]) -> Iterator[dict[str, Any]]:
    for file, _, line in lines:
        if not line.endswith(b"\n") and file.newest:
            return  # still being written
        read[file.name] = read.get(file.name, 0) + len(line)
        try:
            yield read_line(line)
        except WitnessError as error:
            typer.echo(f"{file.name}, at octet {read[file.name] - len(line)}: {error}", err=True)


def _one_line(record: dict[str, Any]) -> str:
    # As JSON in ASCII: whatever stands in a log, it can't move the reader's cursor.
    fields = (record["event"], record["trace_id"], record["payload"])
    return f"{record['index']} {ascii(record['time'])[1:-1]} " + " ".join(json.dumps(field) for field in fields)
