"""Events, and the graph and runs that are folded from them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Every table below but handled_events is a set of merges that commute (least, greatest, latest wins), so that
# the same events give the same rows in whatever order, and however often, they arrive. `*_at` that takes part
# in a "latest wins" is an event's own time; nothing here but received_at depends on when it was written.
# Ids are UUIDv5 of the names: an edge needs no lookup of its ends, and no order of arrival can change an id.
TABLES = """
CREATE TABLE events (
    tenant text NOT NULL,
    subject uuid NOT NULL,            -- the run, else the job, else the dataset that the event is about
    event_time timestamptz NOT NULL,
    digest bytea NOT NULL,            -- blake2b-128 of the body: a repeated event is the same row
    event_type text,
    body json NOT NULL,               -- as it was sent; json, since jsonb would refuse some valid strings
    received_at timestamptz NOT NULL DEFAULT now(),
    -- one index for both uses: recognising a repeat, and reading a run's events in time order
    PRIMARY KEY (tenant, subject, event_time, digest)
);

CREATE TABLE jobs (
    tenant text NOT NULL,
    id uuid NOT NULL,
    namespace text NOT NULL COLLATE "C",
    name text NOT NULL COLLATE "C",
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    latest_run_id uuid,               -- of the latest event that names a run
    latest_run_at timestamptz,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 85);
-- the list of jobs by namespace, in pages
CREATE INDEX jobs_by_name ON jobs (tenant, namespace, name, id);

CREATE TABLE datasets (
    tenant text NOT NULL,
    id uuid NOT NULL,
    namespace text NOT NULL COLLATE "C",
    name text NOT NULL COLLATE "C",
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    written_by uuid,                  -- run of the latest event that has it as an output
    written_at timestamptz,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 85);

CREATE TABLE facets (
    tenant text NOT NULL,
    owner uuid NOT NULL,              -- a job's or a dataset's id
    name text NOT NULL COLLATE "C",
    at timestamptz NOT NULL,
    digest bytea NOT NULL,            -- decides between two facets of one time
    body json NOT NULL,
    PRIMARY KEY (tenant, owner, name)
) WITH (fillfactor = 70);

CREATE TABLE runs (
    tenant text NOT NULL,
    id uuid NOT NULL,
    external_id text,                 -- what the producer sent, where that was no UUID
    state text NOT NULL,
    state_order smallint NOT NULL,    -- 0 new, 10 running, 20.. ended: its tens decide before the time does
    state_at timestamptz NOT NULL,
    job_id uuid NOT NULL,
    job_at timestamptz NOT NULL,
    parent_id uuid,
    parent_at timestamptz,
    error text COLLATE "C",
    error_at timestamptz,
    started_at timestamptz,           -- of the earliest START
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 80);
-- Newest first, for all jobs and for one. By the first event's time: it hardly ever changes, so the updates of a
-- run stay off the indexes (HOT), which last_event_at would not allow.
CREATE INDEX runs_newest ON runs (tenant, first_event_at DESC, id DESC);
CREATE INDEX runs_of_job ON runs (tenant, job_id, first_event_at DESC, id DESC);

CREATE TABLE edges (
    tenant text NOT NULL,
    job_id uuid NOT NULL,
    writes boolean NOT NULL,          -- whether the job writes the dataset or reads it
    dataset_id uuid NOT NULL,
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, job_id, writes, dataset_id)
) WITH (fillfactor = 85);
-- the way from a dataset to its jobs; the primary key is the way back
CREATE INDEX edges_of_dataset ON edges (tenant, dataset_id, writes, job_id);

CREATE TABLE dataset_versions (
    tenant text NOT NULL,
    dataset_id uuid NOT NULL,
    run_id uuid NOT NULL,             -- the run that wrote it
    at timestamptz NOT NULL,
    version text COLLATE "C",         -- of the version facet
    version_at timestamptz,
    PRIMARY KEY (tenant, dataset_id, run_id)
) WITH (fillfactor = 85);

CREATE TABLE symlinks (
    tenant text NOT NULL,
    dataset_id uuid NOT NULL,         -- who says so
    alias_id uuid NOT NULL,
    namespace text NOT NULL COLLATE "C",
    name text NOT NULL COLLATE "C",
    PRIMARY KEY (tenant, dataset_id, alias_id)
);
-- from an alternative name to the datasets that carry it
CREATE INDEX symlinks_of_alias ON symlinks (tenant, alias_id, dataset_id);

CREATE TABLE column_edges (
    tenant text NOT NULL,
    dataset_id uuid NOT NULL,
    field text NOT NULL COLLATE "C",
    source_id uuid NOT NULL,
    source_field text NOT NULL COLLATE "C",
    last_event_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, dataset_id, field, source_id, source_field)
) WITH (fillfactor = 85);
-- downstream of a column
CREATE INDEX column_edges_of_source ON column_edges (tenant, source_id, source_field);

CREATE TABLE handled_events (
    event_id uuid PRIMARY KEY,
    handled_at timestamptz NOT NULL DEFAULT now()
);
"""

TENANT_TABLES = (
    "events", "jobs", "datasets", "facets", "runs", "edges", "dataset_versions", "symlinks", "column_edges",
)  # fmt: skip


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING (tenant = current_setting('lakegate.tenant', true))")


def downgrade() -> None:
    for table in (*TENANT_TABLES, "handled_events"):
        op.execute(f"DROP TABLE {table}")
