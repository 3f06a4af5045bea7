"""One load seen from outside: a trace across all services, the metrics of each, log lines that name both.

The suite runs by settings alone with its spans going to a collector, once on PostgreSQL's event log, once on Kafka.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from servers.otlp import Collector, Span, collecting
from suites import Suite, start_suite, until

SERVICES = ("gateway", "catalog", "ingest", "lineage")
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(scope="module", params=["postgresql", "kafka"])
def traced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Suite, Collector]]:
    with pytest.MonkeyPatch.context() as environment, collecting() as collector:
        for service in map(str.upper, SERVICES):
            environment.setenv(f"{service}_TRACE__ENDPOINT", collector.endpoint)
            environment.setenv(f"{service}_TRACE__SAMPLE_RATIO", "0")
            environment.setenv(f"{service}_TRACE__EXPORT_SECONDS", "0.2")
            if request.param == "kafka" and service != "GATEWAY":
                environment.setenv(f"{service}_KAFKA__BOOTSTRAP", request.getfixturevalue("kafka").bootstrap)
        environment.setenv("GATEWAY_TENANT_CLASSES", '{"default": "gold"}')
        started = start_suite(tmp_path_factory.mktemp("suite"))
        yield started, collector
        started.stop()


@pytest.fixture
def suite(traced: tuple[Suite, Collector]) -> Suite:
    return traced[0]


@pytest.fixture
def spans(traced: tuple[Suite, Collector]) -> Collector:
    return traced[1]


def load(suite: Suite, table: str) -> tuple[str, str]:
    """Load two rows, asking for a record of the trace; its id, and the id of the client's own span."""
    trace_id, client_span = secrets.token_hex(16), secrets.token_hex(8)
    with suite.client() as lake:
        answer = lake.post(
            f"/v1/loads/traced/{table}",
            content=b"id,name\n1,a\n2,b\n",
            headers={"traceparent": f"00-{trace_id}-{client_span}-01", "content-type": "text/csv"},
        )
    assert answer.status_code == 201, answer.text
    assert answer.json()["trace_id"] == trace_id
    return trace_id, client_span


def metrics(suite: Suite, service: str, headers: dict[str, str] | None = None) -> str:
    port = suite.state()["processes"][service]["management_port"]
    return httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=30).raise_for_status().text


def log_lines(suite: Suite, service: str) -> list[dict[str, Any]]:
    assert suite.home is not None
    return [json.loads(line) for line in (suite.home / "logs" / f"{service}.log").read_text().splitlines()]


GATEWAY = "lakegate-gateway: POST /v1/loads (server)"
INGEST = "lakegate-ingest: POST /v1/loads/{namespace}/{table} (server)"
LOAD = "lakegate-ingest: run load (internal)"
COMMIT = "lakegate-ingest: commit (internal)"
CATALOG = "lakegate-catalog: POST /iceberg/v1/{prefix}/namespaces/{namespace}/tables/{table} (server)"
PROCESS = "lakegate-lineage: process openlineage.run_event.v1 (consumer)"
TRANSACTION = "{}: transaction (client)"


def arrived(spans: Collector, trace_id: str) -> bool:
    """Whether all of a load is there: START and COMPLETE handled by lineage, and what they were part of."""
    found = [str(span) for span in spans.trace(trace_id)]
    whole = found.count(PROCESS) == 2 and {GATEWAY, LOAD, CATALOG} <= set(found)
    return whole and len(roots(spans, trace_id)) == 1  # a parent may come later, from another process


def roots(spans: Collector, trace_id: str) -> list[Span]:
    """The spans whose parent is not among those of the trace."""
    known = {span.span_id for span in spans.trace(trace_id)}
    return [span for span in spans.trace(trace_id) if span.parent_id not in known]


def test_one_post_is_one_trace_through_every_service_and_the_event_log(
    suite: Suite, spans: Collector, request: pytest.FixtureRequest
) -> None:
    trace_id, client_span = load(suite, "tree")
    until(lambda: arrived(spans, trace_id), within_seconds=30)
    trace = spans.trace(trace_id)

    assert [(str(span), span.parent_id) for span in roots(spans, trace_id)] == [(GATEWAY, client_span)]

    commit = next(span for span in trace if str(span) == CATALOG)
    assert spans.path(commit) == [GATEWAY, INGEST, LOAD, COMMIT, "lakegate-ingest: POST catalog (client)", CATALOG]
    assert (commit.attributes["http.response.status_code"], commit.failed) == (200, False)

    published = [GATEWAY, INGEST, LOAD, TRANSACTION.format("lakegate-ingest")]
    if "kafka" in request.node.name:
        published.append("lakegate-{}: send openlineage.run_event.v1 (producer)")
    for processed in (span for span in trace if str(span) == PROCESS):
        # the relay is any one of the three processes that have the outbox
        path = [
            each if "send" not in each else "lakegate-{}:" + each.partition(":")[2] for each in spans.path(processed)
        ]
        assert path == [*published, PROCESS]
    written = [span for span in trace if str(span) == TRANSACTION.format("lakegate-lineage")]
    assert written
    assert all(spans.path(span)[-2] == PROCESS for span in written)


def test_log_lines_of_every_service_name_the_trace(suite: Suite, spans: Collector) -> None:
    trace_id, _ = load(suite, "logged")
    for service in ("gateway", "ingest", "catalog"):
        ours = until(lambda: [line for line in log_lines(suite, service) if line.get("trace_id") == trace_id])  # noqa: B023
        assert {line["service"] for line in ours} == {service}
        assert any(line["event"] == "request" and line["status"] < 500 for line in ours)


def test_the_command_line_begins_the_trace_that_its_receipt_names(suite: Suite, spans: Collector) -> None:
    pushed = subprocess.run(
        [sys.executable, "-m", "lakegate", "push", "-", "traced.pushed", "--format", "csv", "--json"],
        input=b"id\n1\n",
        capture_output=True,
        env={**suite.environment, "LAKEGATE_URL": suite.url, "LAKEGATE_KEY": suite.key, "LAKEGATE_TRACE": "1"},
        check=True,
    )
    trace_id = json.loads(pushed.stdout)["trace_id"]
    until(lambda: arrived(spans, trace_id), within_seconds=30)
    gateway = next(span for span in spans.trace(trace_id) if str(span) == GATEWAY)
    assert gateway.parent_id  # the client's own span


def test_a_request_that_nobody_asked_to_record_is_not_recorded(suite: Suite, spans: Collector) -> None:
    with suite.client() as lake:
        trace_id = lake.get("/v1/loads").headers["traceparent"].split("-")[1]
    recorded, _ = load(suite, "after")
    until(lambda: arrived(spans, recorded), within_seconds=30)
    assert spans.trace(trace_id) == []


def test_metrics_tell_of_every_part(suite: Suite) -> None:
    load(suite, "counted")
    gateway = metrics(suite, "gateway")
    counted = 'lakegate_http_requests_total{method="POST",route="/v1/loads",status="201",tenant_class="gold"}'
    assert counted in gateway
    for series in (
        'lakegate_cache_lookups_total{cache="credentials",outcome="hit"}',
        'lakegate_gateway_breaker_open{upstream="ingest"} 0.0',
        'lakegate_gateway_upstream_connections{state="in_use",upstream="ingest"}',
        'lakegate_postgres_connections{state="open"}',
        "lakegate_postgres_acquire_seconds_count",
        "lakegate_event_loop_lag_seconds_count",
        "lakegate_trace_queue_spans",
    ):
        assert series in gateway
    assert 'lakegate_trace_spans_total{outcome="exported"}' in until(
        lambda: "exported" in (text := metrics(suite, "gateway")) and text
    )
    assert "lakegate_ingest_queued_loads 0.0" in until(
        lambda: "lakegate_ingest_queued_loads 0.0" in (text := metrics(suite, "ingest")) and text
    )
    assert 'lakegate_cache_entries{cache="table_metadata"}' in metrics(suite, "catalog")
    lineage = until(lambda: 'lakegate_events_lag{group="lineage"} 0.0' in (text := metrics(suite, "lineage")) and text)
    assert 'lakegate_events_lag_seconds{group="lineage"}' in lineage


def test_latency_buckets_lead_to_the_trace(suite: Suite) -> None:
    trace_id, _ = load(suite, "exemplar")
    text = metrics(suite, "gateway", OPENMETRICS)
    buckets = [
        line
        for line in text.splitlines()
        if line.startswith("lakegate_http_request_duration_seconds_bucket") and f'# {{trace_id="{trace_id}"}}' in line
    ]
    assert buckets
    assert all('route="/v1/loads"' in line for line in buckets)


def test_the_log_level_is_changed_while_the_service_runs(suite: Suite) -> None:
    port = suite.state()["processes"]["catalog"]["management_port"]
    level = f"http://127.0.0.1:{port}/loglevel"
    assert httpx.get(level, timeout=30).json() == {"level": "info"}

    def asked(request_id: str) -> None:
        with suite.client() as lake:
            lake.get("/v1/datasets", headers={"x-request-id": request_id}).raise_for_status()

    def logged() -> set[str]:
        return {line.get("request_id", "") for line in log_lines(suite, "catalog")}

    try:
        httpx.put(level, json={"level": "error"}, timeout=30).raise_for_status()
        asked("quiet-please")
    finally:
        httpx.put(level, json={"level": "info"}, timeout=30).raise_for_status()
    asked("speak-up")
    until(lambda: "speak-up" in logged())
    assert "quiet-please" not in logged()
