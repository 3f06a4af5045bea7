"""A job as it is shown."""

from __future__ import annotations

from typing import Any

from lakegate_lineage.facets import to_facets


def to_job(row: Any) -> dict[str, Any]:
    """The wire form (schemas.Job) of a row."""
    run = {"id": row["run_id"], "state": row["state"], "at": row["state_at"]} if row["run_id"] else None
    names = ("id", "namespace", "name", "first_event_at", "last_event_at")
    return {**{name: row[name] for name in names}, "last_run": run}


def to_detail(row: Any, facets: list[Any], datasets: list[Any]) -> dict[str, Any]:
    """The wire form (schemas.JobDetail)."""
    return to_job(row) | {
        "facets": to_facets(facets),
        "inputs": [_name(dataset) for dataset in datasets if not dataset["writes"]],
        "outputs": [_name(dataset) for dataset in datasets if dataset["writes"]],
    }


def _name(row: Any) -> dict[str, str]:
    return {"namespace": row["namespace"], "name": row["name"]}
