"""Uploads by presigned URL, and the loads that take them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE uploads (
            upload_id     uuid PRIMARY KEY,
            tenant        text NOT NULL,
            subject       text NOT NULL,
            file_name     text NOT NULL,
            content_type  text NOT NULL,
            size_bytes    bigint,
            created_at    timestamptz NOT NULL DEFAULT now(),
            expires_at    timestamptz NOT NULL
        )""")
    op.execute("ALTER TABLE uploads ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY tenant_rows ON uploads USING (tenant = current_setting('lakegate.tenant', true))")
    # Ids only, and no row-level security, as for leases: the sweep has to find what nobody takes, in every tenant.
    op.execute("""
        CREATE TABLE upload_expiries (
            upload_id  uuid PRIMARY KEY,
            tenant     text NOT NULL,
            due_at     timestamptz NOT NULL
        )""")
    op.execute("CREATE INDEX upload_expiries_due ON upload_expiries (due_at)")


def downgrade() -> None:
    op.execute("DROP TABLE upload_expiries")
    op.execute("DROP TABLE uploads")
