"""Where a consumer group on Kafka begins; how far it has come is in Kafka."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE kafka_groups (
            group_name text PRIMARY KEY,
            topics text[] NOT NULL,
            -- A partition without a committed offset, or with one of an older epoch, begins after this position.
            start bigint NOT NULL,
            -- Raised by a rewind; members note in each partition's committed offset which one they have followed.
            epoch bigint NOT NULL DEFAULT 0,
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE kafka_groups;")
