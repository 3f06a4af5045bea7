"""Uploads: what the key that asked for the URL may do, so that another of that person's takes no more from it."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # null: of the release before, which leaves it out; its uploads end within a day or two
    op.execute("ALTER TABLE uploads ADD COLUMN scopes text[]")


def downgrade() -> None:
    op.execute("ALTER TABLE uploads DROP COLUMN scopes")
