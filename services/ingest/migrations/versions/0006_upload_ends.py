"""Uploads: when a URL ends, so that what it brings after its file was loaded is deleted then."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # the release before leaves it out; a URL of it ends within a day
    op.execute("ALTER TABLE upload_expiries ADD COLUMN ends_at timestamptz DEFAULT now() + interval '1 day'")
    op.execute("""
        UPDATE upload_expiries SET ends_at = uploads.expires_at FROM uploads
        WHERE uploads.upload_id = upload_expiries.upload_id""")


def downgrade() -> None:
    op.execute("ALTER TABLE upload_expiries DROP COLUMN ends_at")
