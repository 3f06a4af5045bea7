"""Make the database, the roles and the schemas of the suite, and bring them up to date. Can be run any time.

`python -m lakegate_chassis.provision` makes the database and the roles alone: in a cluster every release migrates
its own schemas. LAKEGATE_ADMIN_URL names the server and who may do that; what is made are the roles, passwords and
the database that the services' own `{SERVICE}_POSTGRES__URL` name.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import sys
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakegate_chassis.migrate import migrate
from lakegate_chassis.migration_files import CHASSIS
from lakegate_chassis.settings import EX_CONFIG, PostgresSettings, load

SERVICES = ("gateway", "catalog", "ingest", "lineage")
DATABASE = "lakegate"
# What every service may do with the event log; the services' roles are members of it.
_EVENTLOG = "lakegate_eventlog"
# PostgreSQL's own default: our passwords have 128 random bits and more, there is nothing to slow down.
_SCRAM_ITERATIONS = 4096


async def provision(admin_url: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> dict[str, str]:
    """Returns the application URL of each service in `passwords`; its role gets that password on every call.

    `admin_url` is a superuser's, or of a role with CREATEDB and CREATEROLE. Raises asyncpg.PostgresError,
    OSError (no server) and lakegate_chassis.migration_files.MigrationFailed.
    """
    await make_database(admin_url, passwords, database)
    target = with_database(admin_url, database)
    for package in (CHASSIS, *(f"lakegate_{service}" for service in passwords)):
        await migrate(target, package)
    return {service: _with_user(target, _app(service), password) for service, password in passwords.items()}


async def make_database(admin_url: str, passwords: Mapping[str, str], database: str) -> None:
    """Roles and database without any schema. Raises asyncpg.PostgresError and OSError."""
    admin = await asyncpg.connect(admin_url)
    try:
        # Two releases may be installed at once.
        await admin.execute("SELECT pg_advisory_lock(hashtextextended('lakegate.provision', 0))")
        await _ensure_roles(admin, passwords)
        await _ensure_database(admin, database, list(passwords))
    finally:
        await admin.close()


async def _ensure_roles(admin: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    existing = {row["rolname"] for row in await admin.fetch("SELECT rolname FROM pg_roles")}
    owners = [f"{_app(service)}_owner" for service in passwords] + [f"{_EVENTLOG}_owner"]
    for role in [*owners, _EVENTLOG]:
        if role not in existing:
            await admin.execute(f'CREATE ROLE "{role}" NOLOGIN')
    for owner in owners:
        # A managed server's admin is no superuser: it must be a member to act as the owner.
        if not await admin.fetchval("SELECT pg_has_role($1::name, 'SET')", owner):
            await admin.execute(f'GRANT "{owner}" TO CURRENT_USER')
    for service, password in passwords.items():
        verb = "ALTER" if _app(service) in existing else "CREATE"
        # The verifier, never the password: a statement may end up in the server's log, or in its statistics.
        await admin.execute(f"{verb} ROLE \"{_app(service)}\" LOGIN PASSWORD '{scram_verifier(password)}'")
        await admin.execute(f'GRANT "{_EVENTLOG}" TO "{_app(service)}"')


async def _ensure_database(admin: asyncpg.Connection, database: str, services: list[str]) -> None:
    if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        await admin.execute(f'CREATE DATABASE "{database}" ENCODING UTF8 TEMPLATE template0')
        await admin.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
    roles = ", ".join(f'"{_app(service)}"' for service in services)
    await admin.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {roles}')


def scram_verifier(password: str, *, salt: bytes | None = None) -> str:
    """What PostgreSQL stores of a password, which it takes in the password's place (RFC 5803, RFC 7677).

    Raises ValueError for characters that SCRAM would have to prepare; the passwords that we make have none.
    """
    if not (password.isascii() and password.isprintable()):
        raise ValueError("a password of a service's role has printable ASCII characters only")
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    shown = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"


def _app(service: str) -> str:
    return f"lakegate_{service}"


def with_database(url: str, database: str) -> str:
    """The same server and user, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


class _AdminSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LAKEGATE_")

    admin_url: SecretStr


class _ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="ignore")

    postgres: PostgresSettings


class Disagreement(Exception):
    """The services' URLs don't belong to one suite; the message says which and why."""


def wanted(urls: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The database and each service's password, as their URLs name them. Raises Disagreement."""
    databases: dict[str, str] = {}
    passwords: dict[str, str] = {}
    for service, url in urls.items():
        parts = urlsplit(url)
        if parts.username != _app(service) or not parts.password:
            raise Disagreement(f"{service.upper()}_POSTGRES__URL: the user has to be {_app(service)}, with a password")
        databases[service] = unquote(parts.path.lstrip("/"))
        passwords[service] = unquote(parts.password)
    names = set(databases.values())
    if len(names) != 1 or not all(names):
        told = ", ".join(f"{service} {name or 'none'}" for service, name in databases.items())
        raise Disagreement(f"The services' URLs have to name one database: {told}")
    return names.pop(), passwords


def main() -> int:
    """Exit code 0 when all is there, 1 when the server refused, 78 for settings that can't be meant."""
    admin_url = load(_AdminSettings).admin_url.get_secret_value()
    urls = {}
    for service in SERVICES:
        settings = load(_with_prefix(service))
        urls[service] = settings.postgres.url.get_secret_value()
    try:
        database, passwords = wanted(urls)
        asyncio.run(make_database(admin_url, passwords, database))
    except Disagreement as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EX_CONFIG
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"the database can't be prepared: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"database {database} and its roles are there")  # noqa: T201
    return 0


def _with_prefix(service: str) -> type[_ServiceSettings]:
    class Prefixed(_ServiceSettings):
        model_config = SettingsConfigDict(env_prefix=f"{service.upper()}_")

    return Prefixed


if __name__ == "__main__":
    sys.exit(main())
