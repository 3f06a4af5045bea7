"""Loads that a worker of their own runs, and loads that are called off."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # offered: the owner waits for a worker to take the lease. cancelled: its owner is to end the load; for those who
    # beat it needs no tenant. progress: of a load that another process runs.
    op.execute("""
        ALTER TABLE leases
            ADD COLUMN offered   boolean NOT NULL DEFAULT false,
            ADD COLUMN cancelled boolean NOT NULL DEFAULT false,
            ADD COLUMN progress  jsonb""")
    # in the load's own row, so that no commit can begin after it
    op.execute("ALTER TABLE loads ADD COLUMN cancelled_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE loads DROP COLUMN cancelled_at")
    op.execute("ALTER TABLE leases DROP COLUMN offered, DROP COLUMN cancelled, DROP COLUMN progress")
