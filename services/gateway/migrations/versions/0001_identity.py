"""API keys, users, clients and refresh tokens."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    subject text NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    prefix text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, created_at DESC, id DESC);

-- a name says whose tenant it is, so it is unique in all of them
CREATE TABLE users (
    username text PRIMARY KEY,
    tenant text NOT NULL,
    password_hash text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE clients (
    client_id text PRIMARY KEY,
    tenant text NOT NULL,
    secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- `family` starts with a login; each use of a token makes the next of its family
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    family uuid NOT NULL,
    tenant text NOT NULL,
    subject text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);
"""

SECURITY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} USING (tenant = current_setting('lakegate.tenant', true));
"""

# A credential has to be looked up before its tenant is known, which is all that these functions allow: one row, by a
# secret's hash or by an exact name. They run as the tables' owner, who is exempt from the policies; a policy that lets
# the application see rows of every tenant "for logins" would let every other query see them too. Nobody else may call
# them: only the application role may use this schema.
LOOKUPS = """
CREATE FUNCTION find_api_key(hash bytea) RETURNS SETOF api_keys
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$ SELECT * FROM api_keys WHERE key_hash = hash $$;

CREATE FUNCTION find_user(name text) RETURNS SETOF users
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$ SELECT * FROM users WHERE username = name $$;

CREATE FUNCTION find_client(id text) RETURNS SETOF clients
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$ SELECT * FROM clients WHERE client_id = id $$;

CREATE FUNCTION find_refresh_token(hash bytea) RETURNS SETOF refresh_tokens
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$ SELECT * FROM refresh_tokens WHERE token_hash = hash $$;

CREATE FUNCTION touch_api_keys(ids uuid[], times timestamptz[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$
        UPDATE api_keys SET last_used_at = greatest(last_used_at, used.at)
        FROM unnest(ids, times) AS used(id, at) WHERE api_keys.id = used.id
    $$;

CREATE FUNCTION drop_expired_refresh_tokens() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = gateway, pg_temp
    AS $$ DELETE FROM refresh_tokens WHERE expires_at < now() - interval '1 day' $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("api_keys", "users", "clients", "refresh_tokens"):
        op.execute(SECURITY.format(table=table))
    op.execute(LOOKUPS)


def downgrade() -> None:
    op.execute("DROP TABLE api_keys, users, clients, refresh_tokens CASCADE")
