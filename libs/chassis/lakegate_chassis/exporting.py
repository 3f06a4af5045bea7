"""Spans on their way to the collector: OTLP over HTTP, from a bounded queue, in a thread of its own, counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from lakegate_chassis.metrics import TRACE_QUEUE, TRACE_SPANS
from lakegate_chassis.settings import TraceSettings

BATCH_SPANS = 512
# How long a process that ends goes on sending; one request more may be under way then.
END_SECONDS = 3.0

EXPORTED = TRACE_SPANS.labels("exported")
FAILED = TRACE_SPANS.labels("failed")
DROPPED = TRACE_SPANS.labels("dropped")


class _Counted(SpanExporter):
    """The SDK says nowhere what became of its spans but in a log line."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.taken = 0
        self.until = float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._inner.export(spans) if time.monotonic() < self.until else SpanExportResult.FAILURE
        (EXPORTED if result is SpanExportResult.SUCCESS else FAILED).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _Bounded(SpanProcessor):
    """A batch processor that counts what finds no room, and whose end is bounded however the collector behaves."""

    def __init__(self, exporter: _Counted, most: int, every_seconds: float) -> None:
        self._exporter = exporter
        self._most = most
        self._handed = 0
        self._batches = BatchSpanProcessor(
            exporter,
            max_queue_size=most,
            max_export_batch_size=min(BATCH_SPANS, most),
            schedule_delay_millis=every_seconds * 1000,
        )
        TRACE_QUEUE.set_function(self._waiting)

    def _waiting(self) -> int:
        return self._handed - self._exporter.taken

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        if self._waiting() >= self._most:
            DROPPED.inc()
            return
        self._handed += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._exporter.until = time.monotonic() + END_SECONDS
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._batches.force_flush(timeout_millis)


def span_processor(settings: TraceSettings) -> SpanProcessor:
    """What takes the spans of a process; `settings.endpoint` is set."""
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint,
        headers=settings.header_pairs(),
        certificate_file=str(settings.ca_file) if settings.ca_file else None,
        timeout=settings.timeout_seconds,
        compression=Compression.Gzip if settings.compress else Compression.NoCompression,
    )
    return _Bounded(_Counted(exporter), settings.queue_spans, settings.export_seconds)
