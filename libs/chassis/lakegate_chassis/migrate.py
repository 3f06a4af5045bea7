"""Bring the schemas of packages up to date: `python -m lakegate_chassis.migrate lakegate_catalog …`.

A package keeps Alembic version files in `migrations/versions/` beside (or inside) itself and no env.py. Its
schema is its name without `lakegate_`; the chassis itself owns `eventlog`. LAKEGATE_MIGRATE_URL names the
database, as a superuser or as the owner of the schema. Runs of several processes wait for each other.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

import asyncpg

from lakegate_chassis.migration_files import MigrationFailed, Migrations, find, read_graph

# A migration that waits longer for a lock would block every query behind it; better to fail and be run again.
_LOCK_WAIT = "60s"
Outcome = Literal["migrated", "current", "ahead", "empty"]


async def migrate(url: str, package: str) -> Outcome:
    """Create the schema if need be, run what is missing, grant the application role its rights.

    "ahead": the database has a revision this release does not know, as during a rollback; nothing is done.
    Raises MigrationFailed.
    """
    migrations = find(package)
    try:
        connection = await asyncpg.connect(url, server_settings={"lock_timeout": _LOCK_WAIT})
    except (OSError, asyncpg.PostgresError) as error:
        raise MigrationFailed(f"{package}: can't reach the database: {error}") from error
    try:
        return await _migrate(connection, url, migrations)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationFailed(
            f"{package}: waited {_LOCK_WAIT} for a lock: another migration or a long transaction holds it"
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"{package}: {error}") from error
    finally:
        await connection.close()


async def _migrate(connection: asyncpg.Connection, url: str, migrations: Migrations) -> Outcome:
    # A session lock: it goes with the connection, so a killed migration leaves none behind.
    await connection.execute(
        "SELECT pg_advisory_lock(hashtextextended($1, 0))", f"lakegate.migrate.{migrations.schema}"
    )
    owner = await _ensure_schema(connection, migrations)
    outcome: Outcome = "empty"
    if migrations.folder is not None:
        at = await _revisions(connection, migrations.schema)
        known, heads = read_graph(migrations.folder)
        if at == heads:
            outcome = "current"
        elif at - known:
            return "ahead"
        else:
            # Alembic and SQLAlchemy take 0.4 s to import: only when there is something to do.
            from lakegate_chassis.alembic_runner import run

            await run(url, migrations, owner)
            outcome = "migrated"
    await _grant(connection, migrations)
    return outcome


async def _ensure_schema(connection: asyncpg.Connection, migrations: Migrations) -> str | None:
    """Make the schema; returns the owner role when it exists and we may act as it."""
    owner: str | None = await connection.fetchval(
        "SELECT rolname FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'SET')", migrations.owner
    )
    if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", migrations.schema):
        authorization = f'AUTHORIZATION "{owner}"' if owner else ""
        await connection.execute(f'CREATE SCHEMA "{migrations.schema}" {authorization}')
    return owner


async def _revisions(connection: asyncpg.Connection, schema: str) -> frozenset[str]:
    if not await connection.fetchval("SELECT to_regclass($1)::text", f"{schema}.alembic_version"):
        return frozenset()
    rows = await connection.fetch(f'SELECT version_num FROM "{schema}".alembic_version')
    return frozenset(row["version_num"] for row in rows)


async def _grant(connection: asyncpg.Connection, migrations: Migrations) -> None:
    """`migrations/grants.sql` says what the application role may do; without one, read and write everything."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", migrations.app):
        return
    schema, app = f'"{migrations.schema}"', f'"{migrations.app}"'
    rights = migrations.folder / "grants.sql" if migrations.folder else None
    if rights is not None and rights.exists():
        await connection.execute(rights.read_text())
        return
    await connection.execute(
        f"""
        GRANT USAGE ON SCHEMA {schema} TO {app};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {app};
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {app};
        """
    )
    if migrations.folder is not None:
        await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {app}")


def main(packages: list[str]) -> int:
    """Exit code 0 when all packages are up to date, 1 when a migration failed, 2 for a wrong call."""
    from pydantic import SecretStr
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from lakegate_chassis.settings import load

    class MigrateSettings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="LAKEGATE_")

        migrate_url: SecretStr

    if not packages:
        print("usage: python -m lakegate_chassis.migrate PACKAGE…", file=sys.stderr)  # noqa: T201
        return 2
    url = load(MigrateSettings).migrate_url.get_secret_value()
    for package in packages:
        try:
            outcome = asyncio.run(migrate(url, package))
        except MigrationFailed as error:
            print(f"migration failed: {error}", file=sys.stderr)  # noqa: T201
            return 1
        print(f"{package}: {outcome}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
