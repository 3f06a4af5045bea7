"""Event streams: requests with an Idempotency-Key, and what became of them."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE stream_requests (
            tenant            text NOT NULL,
            namespace         text NOT NULL,
            table_name        text NOT NULL,
            key               text NOT NULL,
            request_id        uuid NOT NULL,
            attempt           uuid NOT NULL,
            digest            bytea NOT NULL,
            transactional_id  text,
            partition         int,
            accepted          text,
            started_at        timestamptz NOT NULL DEFAULT now(),
            lease_until       timestamptz NOT NULL,
            expires_at        timestamptz NOT NULL,
            PRIMARY KEY (tenant, namespace, table_name, key)
        )""")
    op.execute("CREATE INDEX stream_requests_expiry ON stream_requests (expires_at)")
    op.execute("ALTER TABLE stream_requests ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY tenant_rows ON stream_requests USING (tenant = current_setting('lakegate.tenant', true))")
    # of all tenants: also of those that never come back
    op.execute("""
        CREATE FUNCTION prune_stream_requests(max_keys integer) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = ingest, pg_temp AS $$
        DECLARE
            pruned bigint;
        BEGIN
            DELETE FROM stream_requests WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM stream_requests WHERE expires_at < now() LIMIT max_keys FOR UPDATE SKIP LOCKED));
            GET DIAGNOSTICS pruned = ROW_COUNT;
            RETURN pruned;
        END $$""")


def downgrade() -> None:
    op.execute("DROP FUNCTION prune_stream_requests(integer)")
    op.execute("DROP TABLE stream_requests")
