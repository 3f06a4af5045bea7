"""Changes of entities, and the claims on their names."""

from __future__ import annotations

from alembic import op

revision = "0001_changes"
down_revision = None

TABLES = """
CREATE TABLE changes (
    tenant     text        NOT NULL,
    entity_id  uuid        NOT NULL,
    sequence   integer     NOT NULL CHECK (sequence > 0),
    kind       text        NOT NULL,
    space      text        NOT NULL,
    name_key   text        COLLATE "C",
    state      jsonb,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, entity_id, sequence)
);
COMMENT ON TABLE changes IS
    'Append-only. The highest sequence is the current state; name_key and state are null when the entity is gone.';

CREATE TABLE claims (
    tenant     text        NOT NULL,
    space      text        NOT NULL,
    name_key   text        COLLATE "C" NOT NULL,
    parent     text        COLLATE "C" NOT NULL,
    entity_id  uuid        NOT NULL,
    sequence   integer     NOT NULL CHECK (sequence > 0),
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, space, name_key)
);
CREATE INDEX claims_by_parent ON claims (tenant, space, parent, name_key);
COMMENT ON TABLE claims IS
    'A name is an entity''s while its current change carries it; any other claim is left over from a crash.';
"""

# The tenant '*' reads every tenant's rows and writes none: search replicas are rebuilt with it.
POLICIES = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON {table}
    USING (tenant = current_setting('lakegate.tenant', true))
    WITH CHECK (tenant = current_setting('lakegate.tenant', true) AND tenant <> '*');
CREATE POLICY replicas ON {table} FOR SELECT USING (current_setting('lakegate.tenant', true) = '*');
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("changes", "claims"):
        op.execute(POLICIES.format(table=table))


def downgrade() -> None:
    op.execute("DROP TABLE claims; DROP TABLE changes")
