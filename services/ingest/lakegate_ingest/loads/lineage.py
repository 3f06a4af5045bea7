"""What a load tells the world: its own events, and OpenLineage RunEvents (spec 2-0-2) for START, COMPLETE and FAIL."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pyiceberg.schema import Schema

from lakegate_contracts.events import RunEventObserved
from lakegate_contracts.names import TableName, table_dataset
from lakegate_ingest.loads.queries import LoadRow

PRODUCER = "https://github.com/lakegate/lakegate/services/ingest"
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
FILE_NAMESPACE = "file"
MAX_COLUMN_LINEAGE = 200
MAX_MESSAGE_CHARS = 2000


def run_event(
    load: LoadRow,
    event_type: str,
    at: datetime,
    *,
    schema: Schema | None = None,
    rows: int | None = None,
    size_bytes: int | None = None,
    snapshot_id: int | None = None,
    location: str | None = None,
    problem: dict[str, Any] | None = None,
) -> RunEventObserved:
    """One RunEvent of a load; facets only for what is known at that time."""
    tenant_namespace, _ = table_dataset(load.tenant, load.table)
    run_facets: dict[str, Any] = {
        "lakegate_load": _facet(None, load_id=str(load.load_id), trace_id=load.trace_id, request_id=load.request_id)
    }
    if problem is not None:
        message = str(problem.get("detail", ""))[:MAX_MESSAGE_CHARS]
        run_facets["errorMessage"] = _facet(
            "1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet", message=message, programmingLanguage="NONE"
        )
    return RunEventObserved(
        event={
            "eventType": event_type,
            "eventTime": at.isoformat(),
            "producer": PRODUCER,
            "schemaURL": SPEC,
            "run": {"runId": str(load.run_id), "facets": run_facets},
            "job": {
                "namespace": tenant_namespace,
                "name": f"load.{load.table}",
                "facets": {
                    "jobType": _facet(
                        "2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
                        processingType="BATCH",
                        integration="LAKEGATE",
                        jobType="LOAD",
                    )
                },
            },
            "inputs": [_input(file.name, file.size_bytes, file.records) for file in load.files],
            "outputs": [_output(load, schema, rows, size_bytes, snapshot_id, location)],
        }
    )


def _input(name: str, size_bytes: int, rows: int | None) -> dict[str, Any]:
    statistics = {"size": size_bytes} | ({"rowCount": rows} if rows is not None else {})
    facet = _facet("1-0-0/InputStatisticsInputDatasetFacet.json#/$defs/InputStatisticsInputDatasetFacet", **statistics)
    return {
        "namespace": FILE_NAMESPACE,
        "name": name,
        "facets": {},
        "inputFacets": {"inputStatistics": facet},
    }


def _output(
    load: LoadRow,
    schema: Schema | None,
    rows: int | None,
    size_bytes: int | None,
    snapshot_id: int | None,
    location: str | None,
) -> dict[str, Any]:
    namespace, name = table_dataset(load.tenant, load.table)
    facets: dict[str, Any] = {}
    if schema is not None:
        fields = [
            {"name": field.name, "type": str(field.field_type)} | ({"description": field.doc} if field.doc else {})
            for field in schema.fields
        ]
        facets["schema"] = _facet("1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet", fields=fields)
        facets["columnLineage"] = _column_lineage(load, schema)
    if snapshot_id is not None:
        facets["version"] = _facet(
            "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet", datasetVersion=str(snapshot_id)
        )
    if location is not None:
        scheme, _, path = location.partition("://")
        pair = {"namespace": scheme, "name": path, "type": "LOCATION"}
        facets["symlinks"] = _facet("1-0-1/SymlinksDatasetFacet.json#/$defs/SymlinksDatasetFacet", identifiers=[pair])
    output: dict[str, Any] = {"namespace": namespace, "name": name, "facets": facets}
    if rows is not None:
        statistics = {"rowCount": rows} | ({"size": size_bytes} if size_bytes is not None else {})
        output["outputFacets"] = {
            "outputStatistics": _facet(
                "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet", **statistics
            )
        }
    return output


def _column_lineage(load: LoadRow, schema: Schema) -> dict[str, Any]:
    """A load copies columns by name, from every file alike."""
    files = load.files[:10]
    fields = {
        field.name: {
            "inputFields": [
                {
                    "namespace": FILE_NAMESPACE,
                    "name": file.name,
                    "field": field.name,
                    "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
                }
                for file in files
            ]
        }
        for field in schema.fields[:MAX_COLUMN_LINEAGE]
    }
    return _facet("1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet", fields=fields)


def _facet(path: str | None, **members: Any) -> dict[str, Any]:
    url = f"{FACETS}/{path}" if path else f"{PRODUCER}#/$defs/LakegateLoadRunFacet"
    return {"_producer": PRODUCER, "_schemaURL": url} | members


def event_key(tenant: str, table: TableName) -> str:
    """Events of one table keep their order."""
    return f"{tenant}/{table}"


def source_of(load_id: UUID) -> str:
    return f"/v1/loads/{load_id}"
