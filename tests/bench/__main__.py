"""``make bench``: run every benchmark, write build/bench/results.json and docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from gatekeeperd import __version__
from gatekeeperd.wire import COMPILED
from tests.bench import bench_codec, bench_ledger, bench_ras, bench_security

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "bench" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"

SUITES: tuple[tuple[str, Callable[[Callable[[str], None]], list[dict[str, Any]]]], ...] = (
    ("The codec", lambda _: bench_codec.run()),
    ("Signatures and MACs", lambda _: bench_security.run()),
    ("The ledger: state and witness", lambda _: bench_ledger.run()),
    ("RAS over loopback", bench_ras.run),
)

#: What each figure is held against: name, the bound, and whether more is better.
TARGETS = {
    "codec_rrq_decode_us": (10, False),
    "codec_arq_decode_us": (10, False),
    "codec_setup_decode_us": (10, False),
    "codec_rrq_encode_us": (15, False),
    "codec_arq_encode_us": (15, False),
    "codec_setup_encode_us": (15, False),
    "codec_rrq_decode_us_interpreted": (150, False),
    "codec_arq_decode_us_interpreted": (150, False),
    "codec_setup_decode_us_interpreted": (150, False),
    "codec_rrq_encode_us_interpreted": (150, False),
    "codec_arq_encode_us_interpreted": (150, False),
    "codec_setup_encode_us_interpreted": (150, False),
    "ras_keepalive_per_s": (15_000, True),
    "ras_full_rrq_per_s": (2_000, True),
    "ras_signed_arq_per_s": (5_000, True),
    "ras_keepalive_p99_at_500_ms": (5, False),
    "ras_signed_arq_p99_at_500_ms": (5, False),
    "rss_10000_endpoints_mb": (100, False),
}


def machine() -> str:
    """Name the machine that the figures belong to."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    codec = "compiled" if COMPILED else "interpreted"
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, codec {codec}"


def main() -> None:
    """Run all, show a table as it grows, write both files."""
    console = Console()
    where, when = machine(), datetime.now(UTC)
    chapters: list[tuple[str, list[dict[str, Any]]]] = []
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        for title, run in SUITES:
            task = progress.add_task(title, total=None)

            def tell(what: str, task: TaskID = task, title: str = title) -> None:
                progress.update(task, description=f"{title}: {what}")

            results = run(tell)
            chapters.append((title, results))
            progress.update(task, description=f"{title}: {len(results)} figures", total=1, completed=1)
    for title, results in chapters:
        console.print(_table(title, results))
    figures = [result | {"machine": where} for _, results in chapters for result in results]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    DOCUMENT.write_text(_document(chapters, where, when))
    console.print(f"[bold]{where}[/]\nwritten: {RESULTS.relative_to(ROOT)}, {DOCUMENT.relative_to(ROOT)}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _verdict(result: dict[str, Any]) -> str:
    target = TARGETS.get(result["name"])
    if target is None:
        return ""
    bound, more = target
    met = result["median"] >= bound if more else result["median"] <= bound
    return f"{'at least' if more else 'at most'} {_number(bound)}: {'met' if met else 'NOT met'}"


def _table(title: str, results: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("figure", "unit"):
        table.add_column(column)
    for column in ("median", "min", "max", "runs"):
        table.add_column(column, justify="right")
    table.add_column("target")
    for result in results:
        verdict = _verdict(result)
        style = "red" if "NOT" in verdict else "green" if verdict else ""
        cells = [result["name"], result["unit"], *(_number(result[key]) for key in ("median", "min", "max"))]
        table.add_row(*cells, str(result["runs"]), f"[{style}]{verdict}[/]" if style else "")
    return table


def _document(chapters: list[tuple[str, list[dict[str, Any]]]], where: str, when: datetime) -> str:
    lines = [
        "# Performance",
        "",
        f"Written by `make bench` on {when:%Y-%m-%d} (gatekeeperd {__version__}), which also writes `build/bench/results.json`.",
        f"Machine: {where}. Shared with other work: read the medians, and the spread beside them.",
        "",
        "RAS figures: the daemon on one processor, the load on the other, over loopback, 64 requests in flight; every request",
        "was answered and none refused. A signed ARQ carries an Ed25519 credential and a session MAC; its witness record is",
        "on disk (`fdatasync`) before its ACF leaves, and the run counts the records. A suffix is the number of endpoints",
        "(none: 1,000). `rss` is the daemon's resident memory.",
    ]
    for title, results in chapters:
        lines += [
            "",
            f"## {title}",
            "",
            "| figure | unit | median | min | max | runs | target |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        for result in results:
            numbers = " | ".join(_number(result[key]) for key in ("median", "min", "max"))
            lines.append(f"| `{result['name']}` | {result['unit']} | {numbers} | {result['runs']} | {_verdict(result)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
