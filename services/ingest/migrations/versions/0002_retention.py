"""Old loads can go."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # loads end about in the order in which they are written: a few bytes for each range of pages
    op.execute("CREATE INDEX loads_finished ON loads USING brin (finished_at) WITH (autosummarize = on)")
    # The application sees one tenant at a time, and retention is for all. The loads themselves go tenant by tenant,
    # after their files; a load whose files are still to be deleted waits for that.
    op.execute("""
        CREATE FUNCTION old_loads(keep interval, max_loads integer) RETURNS TABLE (load_id uuid, tenant text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ingest, pg_temp AS $$
            SELECT l.load_id, l.tenant FROM loads l
            WHERE l.finished_at < now() - keep AND NOT EXISTS (SELECT FROM cleanups c WHERE c.load_id = l.load_id)
            LIMIT max_loads
        $$""")
    op.execute("""
        CREATE FUNCTION prune_idempotency_keys(max_keys integer) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = ingest, pg_temp AS $$
        DECLARE
            pruned bigint;
        BEGIN
            DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM idempotency_keys WHERE expires_at < now() LIMIT max_keys FOR UPDATE SKIP LOCKED));
            GET DIAGNOSTICS pruned = ROW_COUNT;
            RETURN pruned;
        END $$""")


def downgrade() -> None:
    op.execute("DROP FUNCTION prune_idempotency_keys(integer)")
    op.execute("DROP FUNCTION old_loads(interval, integer)")
    op.execute("DROP INDEX loads_finished")
