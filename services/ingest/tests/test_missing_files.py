"""Tables whose files somebody deleted in the warehouse."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog

from lakegate_chassis.testing import serving
from lakegate_contracts.identity import Principal
from lakegate_ingest.app import create_app

ROW = b"a\n1\n"


def told(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"]


MISSING = (409, "/problems/table-file-missing")


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("metadata/snap-*.avro", "manifest list"), ("metadata/*-m0.avro", "manifest"), ("data/*/*.parquet", "data file")],
)
async def test_a_read_names_the_file_that_is_gone(
    api: Any, warehouse: Path, capsys: pytest.CaptureFixture[str], pattern: str, kind: str
) -> None:
    assert (await api.load("shop.orders", ROW)).status_code == 201
    (file,) = (warehouse / api.tenant).glob(f"shop/orders-*/{pattern}")
    file.unlink()
    capsys.readouterr()
    answer = await api.client.get("/v1/tables/shop/orders/rows")
    assert told(answer) == MISSING, answer.text
    assert f"{kind} " in answer.json()["detail"]
    assert file.name in answer.json()["detail"]
    logged = [line for line in capsys.readouterr().out.splitlines() if "table_file_missing" in line]
    assert len(logged) == 1
    for part in (api.tenant, "shop.orders", file.name):
        assert part in logged[0]


async def test_a_load_into_such_a_table_fails_and_one_after_a_roll_back_does_not(
    api: Any, catalog: Any, warehouse: Path, identity: Any
) -> None:
    first = (await api.load("shop.orders", ROW)).json()["snapshot_id"]
    second = (await api.load("shop.orders", ROW)).json()["snapshot_id"]
    folder = next((warehouse / api.tenant).glob("shop/orders-*"))
    before = sorted((folder / "data").rglob("*.parquet"))
    next(folder.glob(f"metadata/snap-{second}-*.avro")).unlink()
    answer = await api.load("shop.orders", ROW)
    assert told(answer) == MISSING, answer.text
    assert f"snap-{second}-" in answer.json()["detail"]
    assert sorted((folder / "data").rglob("*.parquet")) == before
    token = identity.signer.mint(
        Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read")), "catalog"
    )

    def roll_back() -> None:
        table = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token).load_table("shop.orders")
        table.manage_snapshots().set_current_snapshot(first).commit()

    await asyncio.to_thread(roll_back)
    assert (await api.load("shop.orders", ROW)).status_code == 201
    assert len(await api.rows("shop.orders")) == 2


async def test_the_catalogs_word_that_the_metadata_is_gone_is_passed_on(
    own_catalog: Any, settings: Any, make: Any, tenant: str, warehouse: Path, tmp_path: Path
) -> None:
    async with serving(create_app(settings(own_catalog.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)
        assert (await api.load("shop.orders", ROW)).status_code == 201
        own_catalog.kill()  # it keeps metadata in memory
        for file in (warehouse / tenant).glob("shop/orders-*/metadata/*.metadata.json"):
            file.unlink()
        await own_catalog.start()
        for answer in (await api.load("shop.orders", ROW), await api.client.get("/v1/tables/shop/orders/rows")):
            assert told(answer) == MISSING, answer.text
            assert "metadata file " in answer.json()["detail"]
