"""Loads, their leases, idempotency keys and the index of quarantine files."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANT_TABLES = ("loads", "idempotency_keys", "quarantine_files")


def upgrade() -> None:
    op.execute("""
        CREATE TABLE loads (
            load_id         uuid PRIMARY KEY,
            tenant          text NOT NULL,
            namespace       text NOT NULL,
            table_name      text NOT NULL,
            state           text NOT NULL CHECK (state IN
                                ('receiving', 'queued', 'reading', 'committing', 'completed', 'failed')),
            options         jsonb NOT NULL,
            subject         text NOT NULL,
            delegation      text,
            request_id      text NOT NULL,
            trace_id        text NOT NULL,
            traceparent     text NOT NULL,
            run_id          uuid NOT NULL,
            fingerprint     text,
            files           jsonb NOT NULL DEFAULT '[]',
            received_bytes  bigint NOT NULL DEFAULT 0,
            attempts        int NOT NULL DEFAULT 0,
            intent          jsonb,
            receipt         jsonb,
            problem         jsonb,
            created_at      timestamptz NOT NULL DEFAULT now(),
            started_at      timestamptz,
            finished_at     timestamptz
        )""")
    op.execute("CREATE INDEX loads_newest ON loads (tenant, created_at DESC, load_id DESC)")
    op.execute("CREATE INDEX loads_by_table ON loads (tenant, namespace, table_name, created_at DESC, load_id DESC)")
    op.execute("""
        CREATE TABLE idempotency_keys (
            tenant      text NOT NULL,
            namespace   text NOT NULL,
            table_name  text NOT NULL,
            key         text NOT NULL,
            load_id     uuid NOT NULL,
            options     text NOT NULL,
            expires_at  timestamptz NOT NULL,
            PRIMARY KEY (tenant, namespace, table_name, key)
        )""")
    op.execute("CREATE INDEX idempotency_keys_expiry ON idempotency_keys (tenant, expires_at)")
    op.execute("""
        CREATE TABLE quarantine_files (
            load_id  uuid NOT NULL REFERENCES loads ON DELETE CASCADE,
            seq      int NOT NULL,
            tenant   text NOT NULL,
            url      text NOT NULL,
            records  bigint NOT NULL,
            PRIMARY KEY (load_id, seq)
        )""")
    # Leases hold ids only and have no row-level security: recovery has to find the loads of dead processes
    # whatever their tenant, and then enters that tenant to touch the load itself.
    op.execute("""
        CREATE TABLE leases (
            load_id       uuid PRIMARY KEY,
            tenant        text NOT NULL,
            owner         text NOT NULL,
            heartbeat_at  timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute("CREATE INDEX leases_owner ON leases (owner)")
    op.execute("""
        CREATE TABLE cleanups (
            load_id  uuid PRIMARY KEY,
            tenant   text NOT NULL,
            due_at   timestamptz NOT NULL
        )""")
    op.execute("CREATE INDEX cleanups_due ON cleanups (due_at)")
    for table in TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"""
            CREATE POLICY tenant_rows ON {table}
            USING (tenant = current_setting('lakegate.tenant', true))""")


def downgrade() -> None:
    for table in ("cleanups", "leases", "quarantine_files", "idempotency_keys", "loads"):
        op.execute(f"DROP TABLE {table}")
