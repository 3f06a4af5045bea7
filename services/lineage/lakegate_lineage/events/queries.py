"""Merging changes into the tables: one statement for each table, its rows by unnest, in the order of the key.

The order of the statements and of the rows in them is the same for every writer, so that two transactions that
touch the same rows wait for each other and never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lakegate_lineage.events.changes import Changes

EVENTS = """
INSERT INTO events (tenant, subject, event_time, digest, event_type, body)
SELECT $1, s, t, d, e, b::json
FROM unnest($2::uuid[], $3::timestamptz[], $4::bytea[], $5::text[], $6::text[]) AS x (s, t, d, e, b)
ON CONFLICT DO NOTHING
"""

JOBS = """
INSERT INTO jobs AS old (tenant, id, namespace, name, first_event_at, last_event_at, latest_run_at, latest_run_id)
SELECT $1, x.* FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::uuid[]) AS x
ON CONFLICT (tenant, id) DO UPDATE SET
    first_event_at = least(old.first_event_at, excluded.first_event_at),
    last_event_at = greatest(old.last_event_at, excluded.last_event_at),
    (latest_run_at, latest_run_id) = (
        SELECT at, run FROM (VALUES (old.latest_run_at, old.latest_run_id),
                                    (excluded.latest_run_at, excluded.latest_run_id)) AS v (at, run)
        ORDER BY at DESC NULLS LAST, run DESC LIMIT 1)
"""

DATASETS = """
INSERT INTO datasets AS old (tenant, id, namespace, name, first_event_at, last_event_at, written_at, written_by)
SELECT $1, x.* FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::uuid[]) AS x
ON CONFLICT (tenant, id) DO UPDATE SET
    first_event_at = least(old.first_event_at, excluded.first_event_at),
    last_event_at = greatest(old.last_event_at, excluded.last_event_at),
    (written_at, written_by) = (
        SELECT at, run FROM (VALUES (old.written_at, old.written_by),
                                    (excluded.written_at, excluded.written_by)) AS v (at, run)
        ORDER BY at DESC NULLS LAST, run DESC LIMIT 1)
"""

RUNS = """
INSERT INTO runs AS old (
    tenant, id, run_id, job_id, external_id, own, state, state_order, state_at, first_event_at, last_event_at,
    started_at, parent_at, parent_id, error_at, error)
SELECT $1, x.* FROM unnest(
    $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::boolean[], $7::text[], $8::smallint[], $9::timestamptz[],
    $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::uuid[],
    $15::timestamptz[], $16::text[]) AS x
ON CONFLICT (tenant, id) DO UPDATE SET
    external_id = coalesce(old.external_id, excluded.external_id),
    own = old.own OR excluded.own,
    (state, state_order, state_at) = (
        SELECT state, stage, at FROM (VALUES (old.state, old.state_order, old.state_at),
                                             (excluded.state, excluded.state_order, excluded.state_at))
            AS v (state, stage, at)
        ORDER BY stage / 10 DESC, at DESC, stage DESC LIMIT 1),
    first_event_at = least(old.first_event_at, excluded.first_event_at),
    last_event_at = greatest(old.last_event_at, excluded.last_event_at),
    started_at = least(old.started_at, excluded.started_at),
    (parent_at, parent_id) = (
        SELECT at, run FROM (VALUES (old.parent_at, old.parent_id),
                                    (excluded.parent_at, excluded.parent_id)) AS v (at, run)
        ORDER BY at DESC NULLS LAST, run DESC LIMIT 1),
    (error_at, error) = (
        SELECT at, error FROM (VALUES (old.error_at, old.error), (excluded.error_at, excluded.error))
            AS v (at, error)
        ORDER BY at DESC NULLS LAST, error DESC LIMIT 1)
"""

EDGES = """
INSERT INTO edges AS old (tenant, job_id, writes, dataset_id, first_event_at, last_event_at)
SELECT $1, x.* FROM unnest($2::uuid[], $3::boolean[], $4::uuid[], $5::timestamptz[], $6::timestamptz[]) AS x
ON CONFLICT (tenant, job_id, writes, dataset_id) DO UPDATE SET
    first_event_at = least(old.first_event_at, excluded.first_event_at),
    last_event_at = greatest(old.last_event_at, excluded.last_event_at)
WHERE excluded.first_event_at < old.first_event_at OR excluded.last_event_at > old.last_event_at
"""

FACETS = """
INSERT INTO facets AS old (tenant, owner, name, at, digest, body)
SELECT $1, o, n, t, d, b::json
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::bytea[], $6::text[]) AS x (o, n, t, d, b)
ON CONFLICT (tenant, owner, name) DO UPDATE
SET at = excluded.at, digest = excluded.digest, body = excluded.body
WHERE (excluded.at, excluded.digest) > (old.at, old.digest)
"""

VERSIONS = """
INSERT INTO dataset_versions AS old (tenant, dataset_id, run_id, at, version_at, version)
SELECT $1, x.* FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[]) AS x
ON CONFLICT (tenant, dataset_id, run_id) DO UPDATE SET
    at = greatest(old.at, excluded.at),
    (version_at, version) = (
        SELECT at, version FROM (VALUES (old.version_at, old.version), (excluded.version_at, excluded.version))
            AS v (at, version)
        ORDER BY at DESC NULLS LAST, version DESC LIMIT 1)
"""

SYMLINKS = """
INSERT INTO symlinks AS old (tenant, dataset_id, alias_id, namespace, name, own)
SELECT $1, x.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::boolean[]) AS x
ON CONFLICT (tenant, dataset_id, alias_id) DO UPDATE SET own = true WHERE excluded.own AND NOT old.own
"""

COLUMNS = """
INSERT INTO column_edges AS old (tenant, dataset_id, field, source_id, source_field, last_event_at)
SELECT $1, x.* FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::timestamptz[]) AS x
ON CONFLICT (tenant, dataset_id, field, source_id, source_field) DO UPDATE
SET last_event_at = excluded.last_event_at
WHERE excluded.last_event_at > old.last_event_at
"""

HANDLED = "INSERT INTO handled_events (event_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING event_id"

# over all tenants, which the application's role can't see itself
PRUNE_EVENTS = "SELECT prune_events($1, $2)"
PRUNE_HANDLED = """
WITH old AS (
    DELETE FROM handled_events WHERE event_id = ANY (ARRAY(
        SELECT event_id FROM handled_events WHERE handled_at < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING event_id)
SELECT count(*) FROM old
"""

NOTHING = (None, None)


async def merge(connection: Any, tenant: str, changes: Changes) -> None:
    """Merge into the tables of `tenant`, within the caller's transaction. Raises asyncpg's errors."""
    for statement, rows in (
        (EVENTS, [(*key, *row) for key, row in sorted(changes.events.items())]),
        (JOBS, _nodes(changes.jobs)),
        (DATASETS, _nodes(changes.datasets)),
        (RUNS, _runs(changes)),
        (EDGES, [(*key, span.first, span.last) for key, span in sorted(changes.edges.items(), key=_key)]),
        (FACETS, [(*key, *row) for key, row in sorted(changes.facets.items())]),
        (VERSIONS, [(*k, c.at, *(c.version or NOTHING)) for k, c in sorted(changes.versions.items(), key=_key)]),
        (SYMLINKS, [(*key, *row) for key, row in sorted(changes.symlinks.items())]),
        (COLUMNS, [(*key, at) for key, at in sorted(changes.columns.items())]),
    ):
        if rows:
            await connection.execute(statement, tenant, *zip(*rows, strict=True))


async def record_handled(connection: Any, event_id: UUID) -> bool:
    """Note that an event of the event log was handled; False when it was before."""
    return await connection.fetchval(HANDLED, event_id) is not None


def _key(item: tuple[Any, Any]) -> Any:
    return item[0]


def _nodes(nodes: dict[UUID, Any]) -> Sequence[tuple[Any, ...]]:
    return [
        (node_id, node.namespace, node.name, node.first, node.last, *(node.run or NOTHING))
        for node_id, node in sorted(nodes.items(), key=_key)
    ]


def _runs(changes: Changes) -> Sequence[tuple[Any, ...]]:
    return [
        (
            key, run.run_id, run.job_id, run.external_id, run.own, run.state.name, run.state.order, run.state.at,
            run.first, run.last, run.started, *(run.parent or NOTHING), *(run.error or NOTHING),
        )
        for key, run in sorted(changes.runs.items(), key=_key)
    ]  # fmt: skip
