"""Event streams: who has one, the Avro schemas of its direct producers, and commits under way."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TENANT_TABLES = ("streams", "stream_schemas")


def upgrade() -> None:
    op.execute("""
        CREATE TABLE streams (
            tenant          text NOT NULL,
            namespace       text NOT NULL,
            table_name      text NOT NULL,
            topic           text NOT NULL UNIQUE,
            on_new_column   text NOT NULL CHECK (on_new_column IN ('evolve', 'reject')),
            subject         text NOT NULL,
            delegation      text NOT NULL,
            delegated_at    timestamptz NOT NULL DEFAULT now(),
            failure         jsonb,
            run_id          uuid,
            run_told_at     timestamptz,
            committed_at    timestamptz,
            created_at      timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant, namespace, table_name)
        )""")
    op.execute("""
        CREATE TABLE stream_schemas (
            schema_id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            tenant      text NOT NULL,
            topic       text NOT NULL,
            digest      bytea NOT NULL,
            schema      jsonb NOT NULL,
            subject     text NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now(),
            UNIQUE (tenant, topic, digest)
        )""")
    # The worker has to find the streams of all tenants, and what dead workers left; it then enters the tenant.
    op.execute("""
        CREATE TABLE stream_topics (
            topic       text PRIMARY KEY,
            tenant      text NOT NULL,
            namespace   text NOT NULL,
            table_name  text NOT NULL
        )""")
    op.execute("""
        CREATE TABLE stream_commits (
            commit_id    uuid PRIMARY KEY,
            topic        text NOT NULL,
            snapshot_id  bigint NOT NULL,
            starts       jsonb NOT NULL,
            location     text NOT NULL,
            urls         jsonb NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute("CREATE INDEX stream_commits_age ON stream_commits (created_at)")
    for table in TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"""
            CREATE POLICY tenant_rows ON {table}
            USING (tenant = current_setting('lakegate.tenant', true))""")


def downgrade() -> None:
    for table in ("stream_commits", "stream_topics", "stream_schemas", "streams"):
        op.execute(f"DROP TABLE {table}")
