"""The metric names are an interface; the histogram counts as Prometheus reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gatekeeperd.core.ras.context import Stats
from gatekeeperd.metrics import Sources, create_registry
from gatekeeperd.net.clock import boottime
from gatekeeperd.net.histogram import LATENCY_BOUNDS, Histogram


@dataclass
class Core:
    stats: Stats = field(default_factory=Stats)
    registration_count: int = 8
    active_sessions: int = 5
    call_count: int = 4
    bandwidth_in_use_bps: int = 2_000_000


@dataclass
class Ledger:
    lag_records: int = 3
    failures: int = 2
    impossible: int = 0
    write_seconds: Histogram = field(default_factory=Histogram)


@pytest.fixture
def sources() -> Sources:
    core, ledger = Core(), Ledger()
    core.stats.received["registrationRequest"] = 10
    core.stats.answered["registrationRequest"] = 9
    core.stats.dropped["malformed"] = 1
    core.stats.admissions["granted", "NONE"] = 6
    core.stats.admissions["rejected", "PII_POLICY_VIOLATION"] = 2
    ledger.write_seconds.observe(0.002)
    latency = {"registrationRequest": Histogram()}
    latency["registrationRequest"].observe(0.0004)
    return Sources(
        node="gk-a",
        core=core,
        ledger=ledger,
        latency=latency,
        faults=lambda: {"oversized": 4},
        ready=lambda: True,
        multicast=False,
        reloads={"ok": 1, "failed": 0},
        started=boottime() - 100,
    )


def test_the_interface_has_exactly_these_names_and_labels(sources: Sources) -> None:
    families = text_string_to_metric_families(generate_latest(create_registry(sources)).decode())
    samples = {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}
    expected = {
        ("h323_gatekeeper_up", ("instance", "gk-a"), ("role", "standalone")): 1,
        ("h323_gatekeeper_active_sessions",): 5,
        ("h323_gatekeeper_total_admissions", ("reason", "NONE"), ("result", "granted")): 6,
        ("h323_gatekeeper_total_admissions", ("reason", "PII_POLICY_VIOLATION"), ("result", "rejected")): 2,
        ("h323_gatekeeper_total_admissions", ("reason", "CAPACITY_EXCEEDED"), ("result", "rejected")): 0,
        ("h323_gatekeeper_failover_total",): 0,
        ("h323_gatekeeper_failover_duration_seconds",): 0,
        ("h323_gatekeeper_registered_endpoints",): 8,
        ("h323_gatekeeper_bandwidth_in_use_bps",): 2_000_000,
        ("h323_gatekeeper_witness_lag_records",): 3,
        ("h323_gatekeeper_commit_failures_total",): 2,
        ("h323_gatekeeper_ras_received_total", ("type", "registrationRequest")): 10,
        ("h323_gatekeeper_ras_answered_total", ("type", "registrationRequest")): 9,
        ("h323_gatekeeper_ras_dropped_total", ("reason", "malformed")): 1,
        ("h323_gatekeeper_datagram_faults_total", ("reason", "oversized")): 4,
        ("h323_gatekeeper_registry_reloads_total", ("result", "ok")): 1,
        ("h323_gatekeeper_ras_response_seconds_bucket", ("le", "0.0005"), ("type", "registrationRequest")): 1,
        ("h323_gatekeeper_ras_response_seconds_bucket", ("le", "0.00025"), ("type", "registrationRequest")): 0,
        ("h323_gatekeeper_commit_seconds_count",): 1,
    }
    assert {name: samples.get(name) for name in expected} == expected
    assert samples["h323_gatekeeper_uptime_seconds",] >= 100
    assert any(name[0] == "h323_gatekeeper_build_info" for name in samples)
    assert any(name[0] == "process_resident_memory_bytes" for name in samples)


def test_openmetrics_scrapers_read_it_too(sources: Sources) -> None:
    text = generate_openmetrics(create_registry(sources)).decode()
    names = {sample.name for family in parse_openmetrics(text) for sample in family.samples}
    assert {"h323_gatekeeper_total_admissions", "h323_gatekeeper_failover_total"} <= names


@given(st.lists(st.floats(0, 10) | st.sampled_from(LATENCY_BOUNDS), max_size=50))
def test_a_histogram_counts_each_observation_up_to_its_bound(seconds: list[float]) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    pairs = histogram.cumulative()
    assert [bound for bound, _ in pairs] == [*map(str, LATENCY_BOUNDS), "+Inf"]
    for bound, count in pairs:
        assert count == sum(each <= float(bound) for each in seconds)
    assert histogram.total == pytest.approx(sum(seconds))
