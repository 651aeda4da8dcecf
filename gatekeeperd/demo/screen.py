"""What the demo looks like: a live table on a terminal, plain lines elsewhere.

What lives here: rich. What never does: deciding anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from gatekeeperd.demo.daemon import Daemon
from gatekeeperd.demo.results import REJECTIONS, Attempt, Results
from gatekeeperd.demo.seat import Seat

_WIDTH = 100
_ROUND_TRIPS = ("GRQ", "RRQ", "ARQ", "keepAlive")


class Screen:
    """Draws on one console, at most 100 columns wide."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal or self._console.width > _WIDTH:
            self._console.width = _WIDTH

    def title(self, daemon: Daemon) -> None:
        """Say who serves whom."""
        facts = Table.grid(padding=(0, 2))
        facts.add_row("gatekeeper", f"gatekeeperd {daemon.version}, process {daemon.pid}, one node, embedded store")
        facts.add_row("RAS", f"{daemon.ras[0]} port {daemon.ras[1]}/udp, H.225.0 v7 in aligned PER")
        facts.add_row("service key", f"ed25519:{daemon.service_key.hex()[:16]}…, pinned by every terminal")
        self._console.print(Panel(facts, title="[bold]Guardian Council", border_style="cyan"))

    def act(self, text: str) -> None:
        """Begin an act."""
        self._console.print()
        self._console.print(Rule(Text(text, style="bold"), align="left", style="cyan"))

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(Padding(Text(text), (0, 1)))

    @contextmanager
    def council(self, seats: Iterable[Seat]) -> Iterator[None]:
        """Show the seats while the body runs: live on a terminal, once at its end elsewhere."""
        seats = list(seats)
        if not self._console.is_terminal:
            yield
            self._console.print(_council(seats))
            return
        with Live(console=self._console, get_renderable=lambda: _council(seats), refresh_per_second=20):
            yield

    def attempts(self, attempts: Iterable[Attempt]) -> None:
        """Show what was tried and refused."""
        self._console.print(Text(_columns("", "tried", "by", "expected", "answered", "ms"), style="dim"))
        for attempt in attempts:
            took = "" if attempt.latency_ms is None else f"{attempt.latency_ms:.1f}"
            mark = "✓" if attempt.failed_as_it_should else "✗"
            line = _columns(mark, attempt.what, attempt.who, attempt.expected, attempt.actual, took)
            self._console.print(Text(line, style="green" if attempt.failed_as_it_should else "bold red"))
            if attempt.evidence:
                self._console.print(Text(f"     {attempt.evidence}", style="dim"))

    def tampering(self, attempts: Iterable[Attempt]) -> None:
        """Show how tampering was found."""
        table = _table("tampered with in a copy", "found")
        table.add_column("where", style="dim")
        for attempt in attempts:
            table.add_row(attempt.what, _verdict(attempt), attempt.evidence)
        self._console.print(table)

    def summary(self, results: Results, report: str) -> None:
        """Say what came of it all."""
        latency = results.latency_ms()
        facts = Table.grid(padding=(0, 2))
        facts.add_row("admitted", f"{results.admitted} of {results.requested} guardians; then the council was filled to its 25")
        refused = sum(results.rejections[name] for name in REJECTIONS)
        facts.add_row("refused", f"{refused} of {len(REJECTIONS)} attempts, each for its own reason")
        trips = f"{latency['avg']:.1f} ms on average, 95 % within {latency['p95']:.1f}, at most {latency['max']:.1f}"
        facts.add_row("RAS", f"{len(results.round_trips_ms)} requests answered: {trips}")
        state = "verified" if results.witness_verified else "NOT verified"
        found = "found and named" if results.tamper_detected else "NOT found"
        facts.add_row("witness", f"{results.witness_records} records, {state}; tampering with copies {found}")
        facts.add_row("report", f"{report}, after {results.duration_s:.1f} s")
        parts: list[RenderableType] = [facts, *(Text(f"✗ {problem}", style="bold red") for problem in results.problems)]
        title = "[bold red]Not as it should be" if results.problems else "[bold green]All as it should be"
        self._console.print()
        self._console.print(Panel(Group(*parts), title=title, border_style="red" if results.problems else "green"))

    def failed(self, message: str) -> None:
        """Say why the demo could not go on."""
        self._console.print(Panel(Text(message), title="[bold red]The demo could not go on", border_style="red"))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _columns(mark: str, what: str, who: str, expected: str, answered: str, took: str) -> str:
    return f" {mark:1} {what:<28} {who:<12} {expected:<21} {answered:<21} {took:>8}"


def _council(seats: list[Seat]) -> Table:
    table = _table("", "guardian", "address", "registered", "admitted")
    table.caption = f"{', '.join(_ROUND_TRIPS)}: round trips in ms, one after the other"
    table.caption_justify = "left"
    for name in _ROUND_TRIPS:
        table.add_column(name, justify="right")
    for seat in seats:
        address = seat.address
        figures = (seat.latest_ms.get(name) for name in _ROUND_TRIPS)
        table.add_row(
            Text(seat.member.alias, style="bold"),
            seat.member.name,
            "" if address is None else f"{address[0]}:{address[1]}",
            _mark(holds=seat.registered),
            _mark(holds=seat.call is not None, text=f" {seat.bandwidth_bps / 1e6:.1f} Mbit/s"),
            *("" if figure is None else f"{figure:.1f}" for figure in figures),
        )
    return table


def _mark(*, holds: bool, text: str = "") -> Text:
    return Text(f"✓{text}", style="green") if holds else Text("…", style="dim")


def _verdict(attempt: Attempt) -> Text:
    if attempt.failed_as_it_should:
        return Text(f"✓ {attempt.actual}", style="green")
    return Text(f"✗ {attempt.actual}", style="bold red")
