"""What a stream tells lineage: a run for each stretch of activity: START, RUNNING now and then, COMPLETE once idle."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.eventlog import EventLog, make_event
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.events import RunEventObserved
from lakegate_contracts.names import TableName, table_dataset
from lakegate_ingest.loads.lineage import FACETS, MAX_COLUMN_LINEAGE, PRODUCER, SPEC, event_key
from lakegate_ingest.streams import queries


class StreamLineage:
    """Publishes by the event log, at most once in `every_seconds` for a stream, whoever works on it."""

    def __init__(self, pool: asyncpg.Pool, log: EventLog, *, bootstrap: str, every_seconds: float) -> None:
        self._pool = pool
        self._log = log
        self._kafka = f"kafka://{bootstrap.split(',')[0].strip()}"
        self._every_seconds = every_seconds

    async def committed(self, tenant: str, table: TableName, topic: str, metadata: TableMetadata) -> None:
        """Tell that the stream is active, if that has not been told lately."""
        async with tenant_transaction(self._pool, tenant) as connection:
            claimed = await queries.claim_run(connection, topic, uuid4(), self._every_seconds)
            if claimed is None:
                return
            run_id, begins = claimed
            kind = "START" if begins else "RUNNING"
            await self._publish(connection, tenant, table, self._event(tenant, table, topic, run_id, kind, metadata))

    async def end_if_idle(self, tenant: str, table: TableName, topic: str) -> None:
        """End the run of a stream that has been silent; also one whose worker has died."""
        async with tenant_transaction(self._pool, tenant) as connection:
            run_id = await queries.end_run(connection, topic, self._every_seconds)
            if run_id is not None:
                event = self._event(tenant, table, topic, run_id, "COMPLETE", None)
                await self._publish(connection, tenant, table, event)

    async def _publish(self, connection: Any, tenant: str, table: TableName, event: RunEventObserved) -> None:
        made = make_event(
            event, key=event_key(tenant, table), tenant=tenant, source=f"/v1/streams/{table.namespace}/{table.name}"
        )
        await self._log.publish(connection, made)

    def _event(
        self, tenant: str, table: TableName, topic: str, run_id: UUID, kind: str, metadata: TableMetadata | None
    ) -> RunEventObserved:
        namespace, name = table_dataset(tenant, table)
        output: dict[str, Any] = {"namespace": namespace, "name": name, "facets": {}}
        if metadata is not None:
            output["facets"] = self._facets(topic, metadata)
        job_type = {"processingType": "STREAMING", "integration": "LAKEGATE", "jobType": "STREAM"}
        return RunEventObserved(
            event={
                "eventType": kind,
                "eventTime": datetime.now(UTC).isoformat(),
                "producer": PRODUCER,
                "schemaURL": SPEC,
                "run": {"runId": str(run_id), "facets": {}},
                "job": {
                    "namespace": namespace,
                    "name": f"stream.{table}",
                    "facets": {"jobType": _facet("2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet", **job_type)},
                },
                "inputs": [{"namespace": self._kafka, "name": topic, "facets": {}}],
                "outputs": [output],
            }
        )

    def _facets(self, topic: str, metadata: TableMetadata) -> dict[str, Any]:
        fields = metadata.schema().fields
        snapshot = metadata.current_snapshot()
        scheme, _, path = metadata.location.partition("://")
        copied = {
            field.name: {
                "inputFields": [
                    {
                        "namespace": self._kafka,
                        "name": topic,
                        "field": field.name,
                        "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
                    }
                ]
            }
            for field in fields[:MAX_COLUMN_LINEAGE]
        }
        facets = {
            "schema": _facet(
                "1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
                fields=[{"name": field.name, "type": str(field.field_type)} for field in fields],
            ),
            "columnLineage": _facet(
                "1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet", fields=copied
            ),
            "symlinks": _facet(
                "1-0-1/SymlinksDatasetFacet.json#/$defs/SymlinksDatasetFacet",
                identifiers=[{"namespace": scheme, "name": path, "type": "LOCATION"}],
            ),
        }
        if snapshot is not None:
            facets["version"] = _facet(
                "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
                datasetVersion=str(snapshot.snapshot_id),
            )
        return facets


def _facet(path: str, **members: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{path}"} | members
