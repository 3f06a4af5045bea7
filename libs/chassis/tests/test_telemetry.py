"""What a service tells of itself: spans at a real collector, exemplars, the level of its log at run time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pydantic import SecretStr, ValidationError
from servers.otlp import Collector
from starlette.middleware import Middleware

from lakegate_chassis import context, exporting, logs, tracing
from lakegate_chassis.app import service_app
from lakegate_chassis.http import upstream_client
from lakegate_chassis.logs import log
from lakegate_chassis.server import management_app
from lakegate_chassis.settings import PostgresSettings, ServiceSettings, TraceSettings, settings_config
from lakegate_chassis.testing import serving
from lakegate_contracts.identity import Principal

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
ASKED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class ShopSettings(ServiceSettings):
    model_config = settings_config("SHOP_")
    port: int = 0
    management_port: int = 0


def settings(**options: Any) -> ShopSettings:
    return ShopSettings(postgres=PostgresSettings(url=SecretStr("postgresql://unused")), **options)


@contextmanager
def tracer(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[Any]:
    """Tracing as a process configures it once, undone at the end."""
    for name in ("_tracer", "_sample_ratio", "_asked_for", "_processor", "_resource"):
        monkeypatch.setattr(tracing, name, getattr(tracing, name))
    provider = tracing.configure(settings(trace=TraceSettings(**options)), "shop", "1.2.3")
    try:
        yield provider
    finally:
        if provider is not None:
            provider.shutdown()


def shop(**options: Any) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = service_app(service="catalog", title="Shop", settings=settings(**options), lifespan=lifespan)

    @app.get("/v1/books/{number}")
    async def book(number: int) -> dict[str, str]:
        with tracing.span("look it up", {"shelf": "A"}):
            log.warning("looked", number=number)
        return {"traceparent": context.current().traceparent}

    @app.get("/v1/broken")
    async def broken() -> Response:
        return Response(status_code=503)

    return app


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def spans(outcome: str) -> float:
    return value("lakegate_trace_spans_total", outcome=outcome)


async def test_a_recorded_request_reaches_the_collector_as_a_tree(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracer(monkeypatch, endpoint=collector.endpoint, sample_ratio=0) as provider:
        async with serving(shop()) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
            await client.get("/v1/books/7", headers=ASKED)
            await client.get("/v1/broken", headers=ASKED)
            await client.get("/v1/books/8")
        await asyncio.to_thread(provider.force_flush)
    inner = collector.find(TRACE, "lakegate-shop: look it up")
    assert inner
    assert collector.path(inner) == [
        "lakegate-shop: GET /v1/books/{number} (server)",
        "lakegate-shop: look it up (internal)",
    ]
    server = next(span for span in collector.spans if span.span_id == inner.parent_id)
    assert server.parent_id == PARENT
    assert server.attributes["http.route"] == "/v1/books/{number}"
    assert server.attributes["http.response.status_code"] == 200
    broken = collector.find(TRACE, "lakegate-shop: GET /v1/broken")
    assert broken
    assert broken.failed
    assert len(collector.spans) == 3  # the request that nobody asked to record is not


async def test_a_call_to_another_service_is_a_span_between_the_two(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracer(monkeypatch, endpoint=collector.endpoint) as provider:
        async with serving(shop()) as url:
            upstream = upstream_client("catalog", url)
            context.enter(context.RequestInfo("r", TRACE, PARENT, True))
            await upstream.get("/v1/books/1")
            context.enter(context.NO_REQUEST)
            await upstream.aclose()
        await asyncio.to_thread(provider.force_flush)
    inner = collector.find(TRACE, "lakegate-shop: look it up")
    assert inner
    assert collector.path(inner)[:2] == [
        "lakegate-shop: GET catalog (client)",
        "lakegate-shop: GET /v1/books/{number} (server)",
    ]


async def test_an_unreachable_service_is_counted_as_such() -> None:
    before = value("lakegate_upstream_calls_total", upstream="nowhere", outcome="unreachable")
    upstream = upstream_client("nowhere", "http://127.0.0.1:1")
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):  # the transport takes one for the other
        await upstream.get("/")
    await upstream.aclose()
    assert value("lakegate_upstream_calls_total", upstream="nowhere", outcome="unreachable") == before + 1


def test_what_clients_ask_to_have_recorded_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracer(monkeypatch, endpoint=collector.endpoint, sample_ratio=0, client_sampled_per_second=2):
        granted = [tracing.start("", ASKED["traceparent"], edge=True)[0].sampled for _ in range(50)]
        inside = [tracing.start("", ASKED["traceparent"])[0].sampled for _ in range(50)]
    assert granted[:2] == [True, True]
    assert sum(granted) < 10
    assert all(inside)


def test_a_client_that_does_not_ask_is_sampled_by_the_ratio_and_keeps_its_trace_id(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = f"00-{TRACE}-{PARENT}-00"
    with tracer(monkeypatch, endpoint=collector.endpoint, sample_ratio=1):
        info, parent_id = tracing.start("", quiet, edge=True)
        inside, _ = tracing.start("", quiet)
    assert (info.trace_id, parent_id, info.sampled, inside.sampled) == (TRACE, PARENT, True, False)


def record(number: int) -> None:
    for _ in range(number):
        with tracing.resumed("r", ASKED["traceparent"], "work", {}):
            pass


def test_spans_that_the_collector_refuses_are_counted(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    collector.status = 400
    before = spans("failed")
    with tracer(monkeypatch, endpoint=collector.endpoint) as provider:
        record(3)
        provider.force_flush()
        assert spans("failed") == before + 3
        assert value("lakegate_trace_queue_spans") == 0


def test_a_collector_that_hangs_costs_spans_and_nothing_else(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.hangs = True
    monkeypatch.setattr(exporting, "END_SECONDS", 0.0)
    dropped, failed = spans("dropped"), spans("failed")
    with tracer(monkeypatch, endpoint=collector.endpoint, queue_spans=64, timeout_seconds=0.2):
        record(500)
        assert value("lakegate_trace_queue_spans") <= 64
    # the end came, though nothing was taken: every span is accounted for
    assert spans("dropped") - dropped + spans("failed") - failed == 500
    assert spans("dropped") - dropped >= 500 - 3 * 64


def test_exports_are_compressed_and_carry_the_headers_that_are_set(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"headers": "authorization=Bearer t0p, x-tenant = acme", "compress": True}
    with tracer(monkeypatch, endpoint=collector.endpoint, **options) as provider:
        record(1)
        provider.force_flush()
    sent = collector.headers[0]
    assert (sent["authorization"], sent["x-tenant"], sent["content-encoding"]) == ("Bearer t0p", "acme", "gzip")
    assert [span.name for span in collector.spans] == ["work"]


@pytest.mark.parametrize("headers", ["a=1,,b=2", "=x"])
def test_headers_that_are_no_pairs_are_refused_at_start(headers: str) -> None:
    with pytest.raises(ValidationError, match="name=value"):
        TraceSettings(headers=SecretStr(headers))


async def test_latency_carries_the_trace_as_exemplar_for_who_accepts_openmetrics(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracer(monkeypatch, endpoint=collector.endpoint, sample_ratio=0):
        async with serving(shop()) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
            await client.get("/v1/books/7", headers=ASKED)
    async with (
        serving(management_app(None), lifespan="off") as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        open_, plain = await client.get("/metrics", headers={"accept": OPENMETRICS}), await client.get("/metrics")
    assert open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_.text.endswith("# EOF\n")
    found = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(open_.text)
        if family.name == "lakegate_http_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar and sample.labels["route"] == "/v1/books/{number}"
    ]
    assert {"trace_id": TRACE} in found
    assert plain.headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.text
    assert "lakegate_http_request_duration_seconds" in {family.name for family in parse_text(plain.text)}


async def test_requests_are_counted_by_the_class_of_their_tenant() -> None:
    app = shop(tenant_classes={"acme": "gold"})

    @app.get("/v1/mine/{tenant}")
    async def mine(tenant: str) -> str:
        return tenant

    class As:
        """Stands in for the token's check: the path says whose request it is."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            tenant = scope.get("path", "").rpartition("/")[2]
            if scope["type"] == "http" and tenant != "nobody":
                scope["principal"] = Principal(tenant=tenant, subject="s", scopes=())
            await self.app(scope, receive, send)

    app.user_middleware.append(Middleware(As))
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        labels = {"method": "GET", "route": "/v1/mine/{tenant}", "status": "200"}
        before = {
            name: value("lakegate_http_requests_total", **labels, tenant_class=name)
            for name in ("gold", "standard", "none")
        }
        for tenant in ("acme", "globex", "initech", "nobody"):
            await client.get(f"/v1/mine/{tenant}")
        after = {name: value("lakegate_http_requests_total", **labels, tenant_class=name) for name in before}
    assert {name: after[name] - before[name] for name in before} == {"gold": 1, "standard": 2, "none": 1}


@pytest.mark.parametrize("classes", [{f"t{n}": f"c{n}" for n in range(17)}, {"acme": "Gold!"}])
def test_classes_of_tenants_are_few_and_plain_words(classes: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="16 classes"):
        settings(tenant_classes=classes)


async def test_the_log_level_is_changed_at_run_time() -> None:
    before = logs.level()
    async with (
        serving(management_app(None), lifespan="off") as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        for level in ("debug", "error", before):
            assert (await client.put("/loglevel", json={"level": level})).json() == {"level": level}
            assert (await client.get("/loglevel")).json() == {"level": level}
            assert logs.threshold() == logs.LEVELS[level]
        refused = await client.put("/loglevel", json={"level": "loud"})
    assert refused.status_code == 422
    assert "debug, info, warning, error" in refused.json()["detail"]


async def test_who_may_read_metrics_does_not_change_the_log_level() -> None:
    before = logs.level()
    app = management_app(None)
    prometheus = httpx.ASGITransport(app, client=("10.1.0.7", 40000))
    async with httpx.AsyncClient(transport=prometheus, base_url="http://catalog:9081") as client:
        refused = await client.put("/loglevel", json={"level": "debug"})
        assert (await client.get("/metrics")).status_code == 200
    assert refused.status_code == 403
    assert "kubectl port-forward" in refused.json()["detail"]
    assert logs.level() == before
