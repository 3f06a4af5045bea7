"""What was stored before a migration is found after it."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from lakegate_lineage import identity

VERSIONS = Path(__file__).parent.parent / "migrations" / "versions"
SCHEMA = "lineage_before"
BEFORE = """
INSERT INTO jobs VALUES ('t', $1, 'etl', 'J', now(), now(), $2, now());
INSERT INTO runs (tenant, id, state, state_order, state_at, job_id, job_at, first_event_at, last_event_at)
VALUES ('t', $2, 'completed', 20, now(), $1, now(), now(), now());
INSERT INTO datasets VALUES ('t', $3, 'db', 'd', now(), now(), $2, now());
INSERT INTO dataset_versions VALUES ('t', $3, $2, now(), '7', now());
INSERT INTO events VALUES ('t', $2, now(), 'x', 'COMPLETE', '{}');
INSERT INTO events VALUES ('t', $1, now(), 'x', NULL, '{}')
"""


def version(name: str) -> ModuleType:
    spec = spec_from_file_location(name, VERSIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_runs_stored_by_their_id_alone_are_keyed_by_their_job_too(database: Any) -> None:
    admin = await asyncpg.connect(database.admin_url)
    job, run, dataset = identity.job_id("etl", "J"), uuid4(), identity.dataset_id("db", "d")
    undone = admin.transaction()
    await undone.start()
    await admin.execute(f"CREATE SCHEMA {SCHEMA}; SET LOCAL search_path = {SCHEMA}")
    await admin.execute(version("0001_lineage").TABLES)
    for statement in BEFORE.split(";"):
        for number, value in ((1, job), (2, run), (3, dataset)):
            statement = statement.replace(f"${number}", f"'{value}'")
        await admin.execute(statement)
    for statement in version("0002_runs_of_jobs").STEPS:
        await admin.execute(statement)

    async def column(statement: str) -> list[UUID]:
        return [row[0] for row in await admin.fetch(statement)]

    key = identity.run_key(job, run)
    assert await column("SELECT id FROM runs") == [key]
    assert await column("SELECT run_id FROM runs") == [run]
    assert await column("SELECT latest_run_id FROM jobs") == [key]
    assert await column("SELECT written_by FROM datasets") == [key]
    assert await column("SELECT run_id FROM dataset_versions") == [key]
    assert set(await column("SELECT subject FROM events")) == {key, job}
    await undone.rollback()
    await admin.close()
