"""Alembic run from code: no env.py, no ini file, one transaction for each revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
from alembic.config import Config
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import await_

from lakegate_chassis.migration_files import MigrationFailed, Migrations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alembic.script.revision import _RevIdType


class PlainSql(PostgresqlImpl):
    """op.execute("…") as PostgreSQL reads it: several statements at a time, and colons are only colons.

    Registered with Alembic by being defined (its implementations are looked up by `__dialect__`).
    """

    __dialect__ = "postgresql"

    def execute(self, sql: Executable | str, execution_options: dict[str, Any] | None = None) -> None:
        if not isinstance(sql, str) or self.connection is None:
            super().execute(sql, execution_options)
            return
        # SQLAlchemy begins the transaction of asyncpg with its own first statement.
        self.connection.exec_driver_sql("SELECT 1")
        adapted = self.connection.connection.dbapi_connection
        driver = getattr(adapted, "driver_connection", None)
        if not isinstance(driver, asyncpg.Connection):
            raise TypeError(f"migrations run on asyncpg, not on {type(driver).__name__}")
        await_(driver.execute(sql))


async def run(url: str, migrations: Migrations, owner: str | None) -> None:
    """Upgrade to the head, acting as `owner` where given. Raises MigrationFailed; what ran before it stays."""
    settings = {"search_path": f'"{migrations.schema}", public', "lock_timeout": "60s"}
    if owner:
        settings["role"] = owner

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, server_settings=settings)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, migrations)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, migrations: Migrations) -> None:
    script = ScriptDirectory(str(migrations.folder))
    revision = "?"

    def steps(current: _RevIdType, context: MigrationContext) -> Iterable[Any]:
        nonlocal revision
        for step in script._upgrade_revs("head", current):  # type: ignore[arg-type]
            revision = str(step.revision.revision)
            yield step

    with EnvironmentContext(Config(), script, fn=steps, destination_rev="head") as environment:
        environment.configure(
            connection=connection,
            version_table_schema=migrations.schema,
            transaction_per_migration=True,
        )
        try:
            with environment.begin_transaction():
                environment.run_migrations()
        except (DBAPIError, CommandError, asyncpg.PostgresError) as error:
            raise MigrationFailed(f"{migrations.package} at revision {revision}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    if not isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "orig", error))
    lines = [str(error)]
    lines += [f"{name}: {text}" for name in ("detail", "hint", "context") if (text := getattr(error, name, None))]
    query, position = getattr(error, "query", None), getattr(error, "position", None)
    if query and position:
        lines.append("at: " + query[: int(position) + 60][-120:].strip())
    return "\n".join(lines)
