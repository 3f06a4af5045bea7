"""The end of a load: one transaction with the row, the quarantine index and the events; exactly one of them wins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
from pyiceberg.schema import Schema

from lakegate_chassis.eventlog import EventLog, make_event
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem, problem_body
from lakegate_contracts.events import EventData, LoadCompleted, LoadFailed
from lakegate_contracts.receipts import QuarantineSummary, Receipt, SourceFile
from lakegate_ingest.commit.committer import Committed
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.lineage import event_key, run_event, source_of
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.loads.schemas import Intent
from lakegate_ingest.metrics import FAILURES, LOADS, ROWS

MAX_REASONS = 100


class Outcomes:
    """Writes how loads begin and end, with their events."""

    def __init__(self, pool: asyncpg.Pool, log: EventLog, *, cleanup_seconds: float) -> None:
        self._pool = pool
        self._log = log
        self._cleanup_seconds = cleanup_seconds

    async def start(self, load: LoadRow) -> None:
        """Publish START; a load that is read again after a crash publishes the same again, which changes nothing."""
        # of the first reading: with a time of its own the second START would be another event of the run
        started_at = load.started_at or load.created_at
        async with tenant_transaction(self._pool, load.tenant) as connection:
            await self._publish(connection, load, [run_event(load, "START", started_at)])

    async def complete(self, load: LoadRow, intent: Intent, committed: Committed | None) -> Receipt:
        """End the load well, and say so once, however often this is called."""
        now = datetime.now(UTC)
        receipt = _receipt(load, intent, committed, now)
        schema = Schema.model_validate(intent.iceberg_schema) if intent.iceberg_schema else None
        events: list[EventData] = []
        if not load.options.dry_run:
            observed = run_event(
                load, "COMPLETE", now, schema=schema, rows=receipt.rows_written, snapshot_id=receipt.snapshot_id,
                location=committed.metadata.location if committed else None,
            )  # fmt: skip
            events = [LoadCompleted(receipt=receipt), observed]
        async with tenant_transaction(self._pool, load.tenant) as connection:
            if await queries.set_completed(connection, load.load_id, receipt):
                files = [(file.url, file.rows) for file in intent.quarantine]
                await queries.add_quarantine_files(connection, load.load_id, load.tenant, files)
                await self._publish(connection, load, events)
                LOADS.labels("dry_run" if load.options.dry_run else "completed").inc()
                ROWS.labels("written").inc(0 if load.options.dry_run else receipt.rows_written)
                ROWS.labels("quarantined").inc(receipt.quarantine.rows)
        return receipt

    async def fail(self, load: LoadRow, problem: Problem) -> None:
        """End the load with a problem, once. Files it may have left in the warehouse are noted for the sweep."""
        now = datetime.now(UTC)
        body = problem_body(problem, f"/v1/loads/{load.load_id}") | {"trace_id": load.trace_id}
        body["load_id"] = str(load.load_id)
        async with tenant_transaction(self._pool, load.tenant) as connection:
            if not await queries.set_failed(connection, load.load_id, body, now):
                return
            if load.intent is not None:
                await queries.add_cleanup(connection, load.load_id, load.tenant, self._cleanup_seconds)
            failed = LoadFailed(
                load_id=load.load_id, table=str(load.table), run_id=load.run_id, problem=body, failed_at=now
            )
            events: list[EventData] = [failed]
            if load.started_at is not None and not load.options.dry_run:
                events.append(run_event(load, "FAIL", now, problem=body))
            await self._publish(connection, load, events)
        LOADS.labels("failed").inc()
        FAILURES.labels(problem.slug).inc()

    async def _publish(self, connection: Any, load: LoadRow, events: list[EventData]) -> None:
        key = event_key(load.tenant, load.table)
        source = source_of(load.load_id)
        await self._log.publish(
            connection, *(make_event(data, key=key, tenant=load.tenant, source=source) for data in events)
        )


def _receipt(load: LoadRow, intent: Intent, committed: Committed | None, now: datetime) -> Receipt:
    reasons = dict(sorted(intent.reasons.items(), key=lambda item: -item[1])[:MAX_REASONS])
    return Receipt(
        load_id=load.load_id,
        tenant=load.tenant,
        table=str(load.table),
        mode=load.options.mode,
        dry_run=load.options.dry_run,
        files=tuple(
            SourceFile(name=file.name, format=file.format, size_bytes=file.sent_bytes, sha256=file.sha256)
            for file in load.files
        ),
        rows_in=intent.rows_in,
        rows_written=intent.rows_written,
        quarantine=QuarantineSummary(
            rows=intent.rows_quarantined, reasons=reasons, href=f"/v1/loads/{load.load_id}/rejects"
        ),
        snapshot_id=intent.snapshot_id if committed else None,
        catalog_version=committed.catalog_version if committed else None,
        consistency_token=committed.consistency_token if committed else None,
        run_id=load.run_id,
        trace_id=load.trace_id,
        request_id=load.request_id,
        started_at=load.started_at or load.created_at,
        completed_at=now,
    )
