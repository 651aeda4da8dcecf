"""What Prometheus sees: names, types and meaning of every metric, collected at scrape.

What lives here: the collector, which reads counters that others keep anyway. What never does: counting; a request costs
nothing here but its histogram (``net/histogram.py``).

Names are an interface. ``h323_gatekeeper_total_admissions`` is a counter whose name does not end in ``_total``, against the
convention; prometheus-client would append it. The name is kept, and the type is therefore exposed as ``untyped``:
``rate()`` works on it all the same. ``h323_gatekeeper_up`` has its own ``instance`` label: scrape with
``honor_labels: true``, or find it as ``exported_instance``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UntypedMetricFamily,
)

from gatekeeperd import __version__
from gatekeeperd.core.ras.context import Stats
from gatekeeperd.net.clock import boottime
from gatekeeperd.net.histogram import Histogram
from gatekeeperd.policy.reasons import RejectReason

PREFIX: Final = "h323_gatekeeper"
#: A node that has no peer. A pair's nodes say ``master`` or ``standby``.
STANDALONE: Final = "standalone"
_RESULTS: Final = (("granted", "NONE"), *(("rejected", reason.value) for reason in RejectReason))


class Core(Protocol):
    """What is read of :class:`gatekeeperd.core.gatekeeper.Gatekeeper`."""

    @property
    def stats(self) -> Stats:
        """Counters since start."""
        ...

    @property
    def registration_count(self) -> int:
        """Registered endpoints."""
        ...

    @property
    def active_sessions(self) -> int:
        """Admissions."""
        ...

    @property
    def call_count(self) -> int:
        """Parts of calls."""
        ...

    @property
    def bandwidth_in_use_bps(self) -> int:
        """Granted or reserved bit/s."""
        ...


class Ledger(Protocol):
    """What is read of :class:`gatekeeperd.net.committer.Committer`."""

    lag_records: int
    failures: int
    impossible: int
    write_seconds: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the figures come from. ``faults`` are the shell's counters of dropped and unsendable datagrams."""

    node: str
    core: Core
    ledger: Ledger
    latency: Mapping[str, Histogram]
    faults: Callable[[], Mapping[str, int]]
    ready: Callable[[], bool]
    multicast: bool
    reloads: Mapping[str, int]
    started: float


class GatekeeperCollector:
    """A prometheus-client collector over :class:`Sources`. Call it on the event loop, whose counters it reads."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Yield every metric family."""
        yield from self._state()
        yield from self._messages()
        yield from self._ledger()

    def _state(self) -> Iterable[Metric]:
        sources, core = self._sources, self._sources.core
        up = GaugeMetricFamily(f"{PREFIX}_up", "1 while requests are served, 0 while not ready", labels=("instance", "role"))
        up.add_metric((sources.node, STANDALONE), float(sources.ready()))
        yield up
        yield _gauge("uptime_seconds", "Seconds since this daemon started", boottime() - sources.started)
        yield _gauge("active_sessions", "Admissions: calls, and vouchers that reserve one", core.active_sessions)
        yield _gauge("calls", "Parts of calls admitted, one for each of our endpoints in a call", core.call_count)
        yield _gauge("registered_endpoints", "Endpoints registered", core.registration_count)
        yield _gauge("bandwidth_in_use_bps", "Bandwidth granted or reserved, bit/s", core.bandwidth_in_use_bps)
        yield _gauge("multicast_joined", "1 where discovery by multicast is heard", sources.multicast)
        # A lone node has nobody to take over from; the names are there so that dashboards and alerts load.
        yield CounterMetricFamily(f"{PREFIX}_failover", "Takeovers by this node", value=0)
        yield _gauge("failover_duration_seconds", "How long the last takeover took", 0)
        admissions = UntypedMetricFamily(
            f"{PREFIX}_total_admissions", "Admission decisions (a counter, whatever its name)", labels=("result", "reason")
        )
        for result in _RESULTS:
            admissions.add_metric(result, core.stats.admissions.get(result, 0))
        yield admissions
        yield _counter("registry_reloads", "Registry reloads", "result", sources.reloads)
        build = InfoMetricFamily(f"{PREFIX}_build", "What runs")
        build.add_metric((), {"version": __version__, "python": platform.python_version()})
        yield build

    def _messages(self) -> Iterable[Metric]:
        sources, stats = self._sources, self._sources.core.stats
        yield _counter("ras_received", "RAS messages received and decoded", "type", stats.received)
        yield _counter("ras_answered", "RAS requests answered", "type", stats.answered)
        yield _counter("ras_dropped", "RAS messages dropped without an answer", "reason", stats.dropped)
        yield _counter(
            "datagram_faults", "Datagrams that never reached the state machine or never left", "reason", sources.faults()
        )
        seconds = HistogramMetricFamily(
            f"{PREFIX}_ras_response_seconds", "From a request's arrival to its answer's departure", labels=("type",)
        )
        for name, histogram in sources.latency.items():
            seconds.add_metric((name,), histogram.cumulative(), histogram.total)
        yield seconds

    def _ledger(self) -> Iterable[Metric]:
        ledger = self._sources.ledger
        yield _gauge("witness_lag_records", "Witness records decided and not yet durable", ledger.lag_records)
        yield CounterMetricFamily(
            f"{PREFIX}_commit_failures", "Group commits that failed and were tried again", value=ledger.failures
        )
        yield CounterMetricFamily(f"{PREFIX}_commits_impossible", "Commits given up: a fault of ours", value=ledger.impossible)
        written = HistogramMetricFamily(f"{PREFIX}_commit_seconds", "Duration of one group commit")
        written.add_metric((), ledger.write_seconds.cumulative(), ledger.write_seconds.total)
        yield written


def create_registry(sources: Sources) -> CollectorRegistry:
    """Build the registry of this daemon: its own metrics, and the process's (resident memory, descriptors, CPU)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatekeeperCollector(sources))
    ProcessCollector(registry=registry)
    return registry


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value=value)


def _counter(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", documentation, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
