"""A table at a glance: one request, three services, and an honest answer when one of them is silent."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
from suites import Push, Suite, until


def overview(lake: httpx.Client, table: str) -> httpx.Response:
    namespace, _, name = table.rpartition(".")
    return lake.get(f"/v1/overview/{namespace}/{name}")


def test_catalog_loads_and_lineage_come_in_one_answer(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a\n1\n")

    def complete() -> dict[str, Any] | None:
        document: dict[str, Any] = overview(lake, table).json()
        return document if document["lineage"] and document["lineage"]["nodes"] else None

    seen = until(complete)
    assert seen["dataset"]["name"] == table
    assert seen["loads"]
    assert seen["errors"] == []


def test_a_table_that_is_not_there_is_not_found(lake: httpx.Client, table: str) -> None:
    answer = overview(lake, table)

    assert answer.status_code == 404 or answer.json()["dataset"] is None


def test_a_silent_service_costs_its_part_and_no_more(own_suite: Suite) -> None:
    with own_suite.client() as lake:
        assert lake.post("/v1/loads/shop/orders", content=b"a\n1\n").status_code == 201
        lineage = own_suite.state()["processes"]["lineage"]["pid"]
        os.kill(lineage, signal.SIGSTOP)
        try:
            answer = lake.get("/v1/overview/shop/orders")
        finally:
            os.kill(lineage, signal.SIGCONT)

    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert seen["dataset"]["name"] == "shop.orders"
    assert seen["lineage"] is None
    assert seen["errors"]
    assert seen["errors"][0]["status"] in (503, 504)
