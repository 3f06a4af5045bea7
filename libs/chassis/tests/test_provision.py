from __future__ import annotations

import base64
import secrets
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.provision import SERVICES, provision, scram_verifier

PASSWORDS = {service: f"pass/@:'{service}" for service in SERVICES}


async def value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_each_service_gets_a_role_that_sees_its_schema_and_the_event_log(database) -> None:
    for service in SERVICES:
        url = database.url(service)
        assert await value(url, "SELECT current_user::text") == f"lakegate_{service}"
        assert await value(url, f"SELECT has_schema_privilege('{service}', 'USAGE')")
        assert await value(url, "SELECT last FROM eventlog.sequencer") is not None
        for other in set(SERVICES) - {service}:
            assert not await value(url, f"SELECT has_schema_privilege('{other}', 'USAGE')")


async def test_no_application_role_gets_round_row_level_security(database) -> None:
    roles = "SELECT bool_or(rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname LIKE 'lakegate%'"
    assert await value(database.admin_url, roles) is False
    owned = (
        "SELECT count(*) FROM pg_tables WHERE tableowner = ANY(ARRAY['lakegate_gateway', 'lakegate_catalog', "
        "'lakegate_ingest', 'lakegate_lineage', 'lakegate_eventlog'])"
    )
    assert await value(database.admin_url, owned) == 0


async def test_every_table_with_a_tenant_is_under_row_level_security(database) -> None:
    open_tables = """
        SELECT array_agg(c.oid::regclass::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND a.attname = 'tenant' AND NOT c.relrowsecurity
          AND c.relnamespace = ANY (ARRAY['gateway', 'catalog', 'ingest', 'lineage']::regnamespace[])
    """
    # Work that is found again whatever its tenant: ids, times and names of tables only, no tenant's data.
    known = {"ingest.leases", "ingest.cleanups", "ingest.upload_expiries", "ingest.stream_topics"}
    assert set(await value(database.admin_url, open_tables) or ()) - known == set()


async def test_an_admin_of_a_managed_server_can_provision_again_with_new_passwords(tmp_path: Path) -> None:
    """Such an admin is no superuser. The second call finds everything there and only sets the passwords."""
    server = EmbeddedPostgres(tmp_path / "pg")
    try:
        root = server.start()
        await value(root, "CREATE ROLE boss LOGIN CREATEDB CREATEROLE PASSWORD 'boss'")
        await value(root, "ALTER ROLE boss SET log_statement = 'all'")
        boss = f"postgresql://boss:boss@127.0.0.1:{server.port}/postgres"
        name = f"lake_{secrets.token_hex(3)}"
        first = await provision(boss, PASSWORDS, database=name)
        assert await value(first["catalog"], "SELECT current_database()::text") == name
        second = await provision(boss, {**PASSWORDS, "catalog": "new"}, database=name)
        assert await value(second["catalog"], "SELECT 1") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await value(first["catalog"], "SELECT 1")
        logged = server.log_path.read_text()
        assert "PASSWORD 'SCRAM-SHA-256$" in logged
        assert "pass/@" not in logged
    finally:
        server.stop()


def test_a_verifier_is_what_rfc_7677_says() -> None:
    # its example: user "user", password "pencil"
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_verifier("pencil", salt=salt)
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
        "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@pytest.mark.parametrize("password", ["Zürich", "a\nb", "a\0b"])
def test_a_password_that_would_have_to_be_prepared_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        scram_verifier(password)


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m lakegate_chassis.provision` with nothing but these variables."""
    command = [sys.executable, "-m", "lakegate_chassis.provision"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def variables(admin_url: str, database: str, **other: str) -> dict[str, str]:
    place = admin_url.rpartition("@")[2].partition("/")[0]
    urls = {
        f"{service.upper()}_POSTGRES__URL": f"postgresql://lakegate_{service}:secret%2F1@{place}/{database}"
        for service in SERVICES
    }
    return {"LAKEGATE_ADMIN_URL": admin_url, **urls, **other}


async def test_the_command_makes_what_the_services_urls_name_and_may_be_repeated(tmp_path: Path) -> None:
    """Roles belong to a server: this one is the test's own."""
    server = EmbeddedPostgres(tmp_path / "pg")
    try:
        environment = variables(server.start(), "lake")
        for _ in range(2):
            done = run(environment)
            assert done.returncode == 0, done.stderr
        for service in SERVICES:
            assert await value(environment[f"{service.upper()}_POSTGRES__URL"], "SELECT current_database()") == "lake"
    finally:
        server.stop()


def test_urls_that_do_not_belong_together_are_refused_with_a_sentence() -> None:
    place = "postgresql://root:root@127.0.0.1:1/postgres"
    other = run(variables(place, "lake", CATALOG_POSTGRES__URL="postgresql://lakegate_catalog:x@127.0.0.1:1/pond"))
    assert other.returncode == 78
    assert "have to name one database: gateway lake, catalog pond" in other.stderr
    user = run(variables(place, "lake", INGEST_POSTGRES__URL="postgresql://root:root@127.0.0.1:1/lake"))
    assert user.returncode == 78
    assert "INGEST_POSTGRES__URL: the user has to be lakegate_ingest" in user.stderr


def test_a_server_that_is_away_is_a_failure_that_says_so() -> None:
    away = run(variables("postgresql://root:root@127.0.0.1:1/postgres", "lake"))
    assert away.returncode == 1
    assert "the database can't be prepared" in away.stderr
