from __future__ import annotations

import asyncio
import sys
import textwrap
from pathlib import Path

import asyncpg
import pytest

from lakegate_chassis.migrate import migrate
from lakegate_chassis.migration_files import MigrationFailed

FIRST = """
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.execute('''
        CREATE TABLE things (name text, data jsonb DEFAULT '{"a":1}');
        INSERT INTO things (name) VALUES (':colon and 100%');
    ''')
"""
SECOND = """
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    op.execute("ALTER TABLE things ADD COLUMN size int; UPDATE things SET size = 3")
"""
BROKEN = """
from alembic import op
revision = "0003"
down_revision = "0002"
def upgrade():
    op.execute("CREATE TABLE half (a int); ALTER TABLE nowhere ADD COLUMN b int")
"""


class Package:
    """A package `lakegate_<name>` on disk with version files beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = f"lakegate_{name}"
        self.schema = name
        self._versions = folder / "migrations" / "versions"
        self._versions.mkdir(parents=True)
        (folder / self.name).mkdir()
        (folder / self.name / "__init__.py").touch()

    def add(self, file: str, source: str) -> None:
        (self._versions / file).write_text(textwrap.dedent(source))

    def remove(self, file: str) -> None:
        (self._versions / file).unlink()


@pytest.fixture
def package(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return Package(tmp_path, f"probe_{abs(hash(request.node.name)) % 10**8}")


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def test_a_package_without_version_files_gets_its_schema(package: Package, database) -> None:
    assert await migrate(database.admin_url, package.name) == "empty"
    assert await fetch(database.admin_url, f"SELECT 1 FROM pg_namespace WHERE nspname = '{package.schema}'")


async def test_statements_run_as_written_and_only_once(package: Package, database) -> None:
    package.add("0001_first.py", FIRST)
    assert await migrate(database.admin_url, package.name) == "migrated"
    assert await migrate(database.admin_url, package.name) == "current"
    package.add("0002_second.py", SECOND)
    assert await migrate(database.admin_url, package.name) == "migrated"
    rows = await fetch(database.admin_url, f"SELECT name, size FROM {package.schema}.things")
    assert [tuple(row) for row in rows] == [(":colon and 100%", 3)]


async def test_a_failing_revision_is_named_and_leaves_nothing_of_itself(package: Package, database) -> None:
    package.add("0001_first.py", FIRST)
    package.add("0002_second.py", SECOND)
    package.add("0003_broken.py", BROKEN)
    with pytest.raises(MigrationFailed, match=r'revision 0003: relation "nowhere" does not exist'):
        await migrate(database.admin_url, package.name)
    tables = await fetch(
        database.admin_url,
        f"SELECT to_regclass('{package.schema}.half') AS half, version_num FROM {package.schema}.alembic_version",
    )
    assert [tuple(row) for row in tables] == [(None, "0002")]


async def test_a_newer_database_is_left_alone(package: Package, database) -> None:
    package.add("0001_first.py", FIRST)
    package.add("0002_second.py", SECOND)
    await migrate(database.admin_url, package.name)
    package.remove("0002_second.py")
    assert await migrate(database.admin_url, package.name) == "ahead"


async def test_two_at_once_wait_for_each_other(package: Package, database) -> None:
    package.add("0001_first.py", FIRST)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lakegate_chassis.migrate",
        package.name,
        env={"LAKEGATE_MIGRATE_URL": database.admin_url, "PYTHONPATH": sys.path[0]},
        stdout=asyncio.subprocess.PIPE,
    )
    outcome = await migrate(database.admin_url, package.name)
    out, _ = await process.communicate()
    other = out.decode().strip().rpartition(": ")[2]
    assert sorted([outcome, other]) == ["current", "migrated"]


async def test_a_service_role_may_write_its_tables_and_not_the_version(database) -> None:
    rows = await fetch(
        database.url("catalog"),
        "SELECT has_table_privilege('eventlog.events', 'INSERT'), "
        "has_table_privilege('eventlog.events', 'UPDATE'), "
        "has_schema_privilege('catalog', 'USAGE'), has_schema_privilege('lineage', 'USAGE')",
    )
    assert [tuple(row) for row in rows] == [(True, False, True, False)]


async def test_an_unreachable_database_is_said_so() -> None:
    with pytest.raises(MigrationFailed, match="can't reach the database"):
        await migrate("postgresql://a:b@127.0.0.1:1/x", "lakegate_chassis")


async def test_an_unknown_package_is_said_so(database) -> None:
    with pytest.raises(MigrationFailed, match="lakegate_nothing: no such package"):
        await migrate(database.admin_url, "lakegate_nothing")
