"""Runs are keyed by their job too, links carry who told them, and old events can go."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# `runs.id` becomes the key (lakegate_lineage.identity.run_key) that the other tables refer to; `run_id` is what
# the producer calls the run. Two jobs may claim one run_id: each has its own row, and neither touches the other's.
# `own` says that a service of ours told it, by the event log.
STEPS = (
    """
    CREATE FUNCTION run_key(job_id uuid, run_id uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT encode(substring(sha256(uuid_send(job_id) || uuid_send(run_id)) FROM 1 FOR 16), 'hex')::uuid
    $$
    """,
    "ALTER TABLE runs ADD COLUMN run_id uuid, ADD COLUMN own boolean NOT NULL DEFAULT false",
    "ALTER TABLE symlinks ADD COLUMN own boolean NOT NULL DEFAULT false",
    """
    UPDATE events e SET subject = run_key(r.job_id, r.id) FROM runs r WHERE r.tenant = e.tenant AND r.id = e.subject
    """,
    """
    UPDATE jobs SET latest_run_id = run_key(id, latest_run_id) WHERE latest_run_id IS NOT NULL
    """,
    """
    UPDATE datasets d SET written_by = run_key(r.job_id, r.id)
    FROM runs r WHERE r.tenant = d.tenant AND r.id = d.written_by
    """,
    """
    UPDATE dataset_versions v SET run_id = run_key(r.job_id, r.id)
    FROM runs r WHERE r.tenant = v.tenant AND r.id = v.run_id
    """,
    "UPDATE runs SET run_id = id, id = run_key(job_id, id)",
    "ALTER TABLE runs ALTER COLUMN run_id SET NOT NULL, DROP COLUMN job_at",
    "DROP FUNCTION run_key(uuid, uuid)",
    "CREATE INDEX runs_by_run_id ON runs (tenant, run_id)",
    # rows come in the order of time: a few bytes for each range of pages, where a B-tree would cost every insert
    "CREATE INDEX events_received ON events USING brin (received_at) WITH (autosummarize = on)",
    "CREATE INDEX handled_events_handled ON handled_events USING brin (handled_at) WITH (autosummarize = on)",
    # the application sees one tenant at a time, and retention is for all
    """
    CREATE FUNCTION prune_events(keep interval, max_events integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = lineage, pg_temp AS $$
    DECLARE
        pruned bigint;
    BEGIN
        DELETE FROM events WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM events WHERE received_at < now() - keep LIMIT max_events FOR UPDATE SKIP LOCKED));
        GET DIAGNOSTICS pruned = ROW_COUNT;
        RETURN pruned;
    END $$
    """,
)


def upgrade() -> None:
    for statement in STEPS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError(
        "0002 can't be undone: a run_id that two jobs claim can't become a key again. Restore a backup from before it."
    )
