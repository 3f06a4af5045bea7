"""A table whose metadata file somebody deleted in the warehouse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from lakegate_catalog.app import create_app
from lakegate_catalog.settings import CatalogSettings, MetadataSettings, SearchSettings
from lakegate_chassis.testing import serving

from .conftest import SCHEMA, error, snapshot


def delete(location: str) -> None:
    Path(location.removeprefix("file://")).unlink()


async def test_a_metadata_file_that_somebody_deleted_is_named(
    settings: CatalogSettings,
    token: Callable[..., str],
    tenant: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forgetful = settings.model_copy(
        update={"metadata": MetadataSettings(cache_bytes=0), "search": SearchSettings(dir=tmp_path)}
    )
    async with (
        serving(create_app(forgetful)) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token()}"}, timeout=30) as client,
    ):
        spaces = f"/iceberg/v1/{tenant}/namespaces"
        await client.post(spaces, json={"namespace": ["travel"]})
        made = (await client.post(f"{spaces}/travel/tables", json={"name": "flights", "schema": SCHEMA})).json()
        delete(made["metadata-location"])
        capsys.readouterr()
        at = f"{spaces}/travel/tables/flights"
        for answer in (
            await client.get(at),
            await client.post(at, json=snapshot(made["metadata"]["location"], 11, 1)),
        ):
            assert error(answer) == (422, "NotFoundException")
            assert made["metadata-location"] in answer.json()["error"]["message"]
        logged = [line for line in capsys.readouterr().out.splitlines() if "table_file_missing" in line]
        assert len(logged) == 2
        for part in (tenant, "travel.flights", made["metadata-location"]):
            assert part in logged[0]
        assert (await client.delete(at)).status_code == 204
