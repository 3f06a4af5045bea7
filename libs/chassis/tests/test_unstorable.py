from __future__ import annotations

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from lakegate_chassis.problems import install_problem_handlers
from lakegate_chassis.testing import serving


@pytest.mark.parametrize("cast", ["text", "jsonb"])
async def test_a_zero_character_is_the_callers_fault(postgres_admin_url: str, cast: str) -> None:
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/")
    async def store(value: str) -> None:
        connection = await asyncpg.connect(postgres_admin_url)
        try:
            await connection.execute(f"SELECT $1::{cast}", value if cast == "text" else '"\\u0000"')
        finally:
            await connection.close()

    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get("/", params={"value": "a\x00b"})
    assert answer.status_code == 422
    assert "U+0000" in answer.json()["detail"]
