"""What an access token is bound to, so that it ends with the password or secret that it was got by."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        -- another one with every new password or secret, and with every account that takes an old name
        ALTER TABLE users ADD COLUMN credential_id uuid NOT NULL DEFAULT gen_random_uuid();
        ALTER TABLE clients ADD COLUMN credential_id uuid NOT NULL DEFAULT gen_random_uuid();
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN credential_id; ALTER TABLE clients DROP COLUMN credential_id")
