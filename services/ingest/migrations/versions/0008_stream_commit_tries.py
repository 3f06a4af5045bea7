"""Event streams: when the sweep last looked at a commit that came to nothing."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE stream_commits ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now()")
    op.execute("CREATE INDEX stream_commits_tried ON stream_commits (tried_at)")


def downgrade() -> None:
    op.execute("ALTER TABLE stream_commits DROP COLUMN tried_at")
