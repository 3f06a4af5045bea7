"""Event streams: which topic of a stream's name its owner wants to be read from its beginning."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE streams ADD COLUMN accepted_topic_id text")


def downgrade() -> None:
    op.execute("ALTER TABLE streams DROP COLUMN accepted_topic_id")
