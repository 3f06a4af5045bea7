"""What surrounds every request: ids, trace, one log line, metrics, the last error handler, drain.

Pure ASGI, since a BaseHTTPMiddleware costs 350 microseconds a request where this costs about 15.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakegate_chassis import context, logs, tracing
from lakegate_chassis.health import HEALTH_PATHS, Health
from lakegate_chassis.metrics import DISCONNECTS, IN_FLIGHT, LATENCY, REQUESTS
from lakegate_chassis.problems import Unavailable, answer_to, unforeseen
from lakegate_chassis.tenants import class_of

MAX_REQUEST_ID = 128
MAX_PATH = 1024  # of a path in a span
CUT_OFF = "This process ends and could wait no longer. Look whether the request was done, and send it again."


class RequestMiddleware:
    """The outermost layer of a service. Sets the context, and answers what nobody caught with a problem.

    `tenant_classes` as in the settings; `edge` where callers are strangers, whose wish to be traced has bounds.
    """

    def __init__(
        self, app: ASGIApp, service: str, health: Health, tenant_classes: Mapping[str, str], *, edge: bool
    ) -> None:
        self.app = app
        self.service = service
        self.health = health
        self._classes = tenant_classes
        self._edge = edge
        self._requests: dict[tuple[str, str, int, str], Counter] = {}
        self._latencies: dict[tuple[str, str, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = traceparent = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = _clean(value)
            elif name == b"traceparent":
                traceparent = value.decode("latin-1")
        info, parent_id = tracing.start(request_id, traceparent, edge=self._edge)
        context.enter(info)
        await self._serve(info, parent_id, scope, receive, send)

    async def _serve(
        self, info: context.RequestInfo, parent_id: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        began_ns = time.time_ns() if info.sampled else 0
        started = time.perf_counter()
        status = 0
        sent_bytes = 0
        complete = False

        async def send_with_ids(message: Message) -> None:
            nonlocal status, sent_bytes, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [pair for pair in message["headers"] if pair[0] not in (b"x-request-id", b"traceparent")]
                headers.append((b"x-request-id", info.request_id.encode()))
                headers.append((b"traceparent", info.traceparent.encode()))
                if self.health.draining.is_set():
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        IN_FLIGHT.inc()
        try:
            await self.app(scope, receive, send_with_ids)
        except asyncio.CancelledError:
            # the server ends, and has waited as long as it could
            if self.health.draining.is_set() and not status:
                await answer_to(scope, Unavailable(CUT_OFF))(scope, receive, send_with_ids)
            raise
        except ClientDisconnect:
            pass  # nobody is left to answer; it is counted as incomplete below
        except Exception as error:  # the last handler: whatever it is, the client gets an answer
            problem = unforeseen(error)
            if status:
                raise  # the answer has begun: breaking the connection is the only way to say that it is not whole
            await answer_to(scope, problem)(scope, receive, send_with_ids)
        finally:
            IN_FLIGHT.dec()
            self._record(info, scope, parent_id, began_ns, status, sent_bytes, complete, time.perf_counter() - started)

    def _record(
        self,
        info: context.RequestInfo,
        scope: Scope,
        parent_id: str | None,
        began_ns: int,
        status: int,
        sent: int,
        complete: bool,
        seconds: float,
    ) -> None:
        method, path = scope["method"], scope["path"]
        route = route_template(scope)
        tenant_class = class_of(self._classes, scope)
        # a label lookup costs more than the count; method, route, status and class have few values
        requests = self._requests.get((method, route, status, tenant_class))
        if requests is None:
            requests = REQUESTS.labels(method, route, str(status), tenant_class)
            self._requests[method, route, status, tenant_class] = requests
        requests.inc()
        latency = self._latencies.get((method, route, tenant_class))
        if latency is None:
            latency = LATENCY.labels(method, route, tenant_class)
            self._latencies[method, route, tenant_class] = latency
        if not info.sampled:
            latency.observe(seconds)
        else:
            latency.observe(seconds, {"trace_id": info.trace_id})
            attributes = described(info, scope, route, status, complete=complete)
            failed = status >= 500 or status == 0
            tracing.record_request(info, parent_id, f"{method} {route}", attributes, began_ns=began_ns, failed=failed)
        if not complete:
            DISCONNECTS.inc()
        if path in HEALTH_PATHS and status == 200:
            return
        write_access_line(
            self.service, info, scope, method=method, path=path, route=route, status=status, bytes=sent,
            complete=complete, seconds=round(seconds, 6),
        )  # fmt: skip


def route_template(scope: Scope) -> str:
    """`/v1/loads/{id}`, never the path itself: a label's values must be few."""
    template = scope.get("route_template")
    if template:
        return str(template)
    return str(getattr(scope.get("route"), "path", "unmatched"))


def described(
    info: context.RequestInfo, scope: Scope, route: str, status: int, *, complete: bool
) -> dict[str, str | int | bool]:
    """A request as its span tells it (OpenTelemetry's semantic conventions for HTTP servers); each entry costs."""
    attributes: dict[str, str | int | bool] = {
        "http.request.method": scope["method"],
        "url.path": scope["path"][:MAX_PATH],
        "http.route": route,
        "http.response.status_code": status,
    }
    principal = scope.get("principal")
    if principal is not None:
        attributes["lakegate.tenant"] = principal.tenant
    if info.request_id != info.trace_id:
        attributes["lakegate.request_id"] = info.request_id
    if not complete:
        attributes["lakegate.incomplete"] = True
    return attributes


def write_access_line(service: str, info: context.RequestInfo, scope: Scope, **fields: object) -> None:
    """The one log line of a request, written straight: through structlog it would cost five times as much."""
    if logs.LEVELS["info"] < logs.threshold():
        return
    principal = scope.get("principal")
    line = {
        "timestamp": datetime.now(UTC),
        "level": "info",
        "event": "request",
        "service": service,
        "request_id": info.request_id,
        "trace_id": info.trace_id,
        "tenant": principal.tenant if principal else None,
        "subject": principal.subject if principal else None,
        **fields,
    }
    logs.write_soon(orjson.dumps(line))


def _clean(value: bytes) -> str:
    """A request id as the client sent it, if it is short and printable; else none, and one is made."""
    text = value.decode("latin-1")
    return text if len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable() else ""
