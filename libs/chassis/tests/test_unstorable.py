from __future__ import annotations

from datetime import datetime

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from lakegate_chassis.problems import install_problem_handlers
from lakegate_chassis.testing import serving


@pytest.mark.parametrize(
    ("cast", "value", "detail"),
    [
        ("text", "a\x00b", "U+0000"),
        ("jsonb", '"\\u0000"', "U+0000"),
        ("timestamptz", datetime.fromisoformat("0001-01-01T00:00:00+14:00"), "can be stored"),  # refused by asyncpg
        ("float8", 2.5, "can be stored"),  # refused by PostgreSQL
    ],
)
async def test_a_value_that_can_t_be_stored_is_the_caller_s_fault(
    postgres_admin_url: str, cast: str, value: object, detail: str
) -> None:
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/")
    async def store() -> None:
        connection = await asyncpg.connect(postgres_admin_url)
        try:
            await connection.execute(f"SELECT sqrt(-$1::{cast})" if cast == "float8" else f"SELECT $1::{cast}", value)
        finally:
            await connection.close()

    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        answer = await client.get("/")
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
