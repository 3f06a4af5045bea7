"""What is refused for what it asks, before a body matters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import JobSettings

ROWS = b"a,b\n1,x\n"


@pytest.mark.parametrize(
    ("params", "slug"),
    [
        ({"mode": "overwrite"}, "bad-load-parameter"),
        ({"format": "excel"}, "bad-load-parameter"),
        ({"on_new_column": "ignore"}, "bad-load-parameter"),
        ({"delimiter": ";;"}, "bad-load-parameter"),
        ({"dry_run": "perhaps"}, "invalid-request"),
        ({"fromat": "csv"}, "invalid-request"),
    ],
)
async def test_a_parameter_that_can_not_be_used_is_named(api: Any, params: dict[str, str], slug: str) -> None:
    answer = await api.load("shop.orders", ROWS, params=params)
    assert answer.status_code == 422
    assert answer.json()["type"] == f"/problems/{slug}"
    assert next(iter(params)) in answer.json()["detail"]


async def test_a_table_name_with_a_dot_is_refused(api: Any) -> None:
    answer = await api.client.post("/v1/loads/shop/orders.old", content=ROWS)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/bad-table-name"


async def test_the_folder_of_rejected_rows_is_no_namespace(api: Any) -> None:
    answer = await api.client.post("/v1/loads/_quarantine/orders", content=ROWS)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/bad-table-name"


@pytest.mark.parametrize("charset", ["zlib", "rot13", "hex", "undefined", "idna", "unicode_escape", "klingon"])
async def test_a_charset_that_is_no_text_encoding_is_refused(api: Any, charset: str) -> None:
    answer = await api.load("shop.orders", ROWS, content_type=f"text/csv; charset={charset}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/bad-load-parameter"
    assert charset in answer.json()["detail"]


async def test_a_token_without_the_scope_for_the_namespace_may_not_load(
    ingest_url: str, make: Any, tenant: str
) -> None:
    partner = make(ingest_url, tenant, ("loads:write@travel.*",))
    answer = await partner.load("shop.orders", ROWS)
    assert answer.status_code == 403
    assert "loads:write" in answer.json()["detail"]


async def test_a_request_without_delegation_is_not_taken(api: Any) -> None:
    del api.client.headers["lakegate-delegation"]
    assert (await api.load("shop.orders", ROWS)).status_code == 401


async def test_a_dry_run_reads_everything_and_commits_nothing(api: Any) -> None:
    answer = await api.load("shop.orders", ROWS, params={"dry_run": "true"})
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert (receipt["dry_run"], receipt["rows_in"], receipt["snapshot_id"]) == (True, 1, None)
    assert (await api.client.get("/v1/tables/shop/orders/rows")).status_code == 404


async def test_a_repeated_idempotency_key_returns_the_first_receipt(api: Any) -> None:
    first = await api.load("shop.orders", ROWS, idempotency_key="k1")
    again = await api.load("shop.orders", ROWS, idempotency_key="k1")
    assert (first.status_code, again.status_code) == (201, 201), first.text + again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert len(await api.rows("shop.orders")) == 1


async def test_a_repeated_multipart_upload_is_recognised_in_spite_of_its_new_boundary(api: Any) -> None:
    headers = {"idempotency-key": "k2"}
    answers = [
        await api.client.post("/v1/loads/shop/orders", files=[("f", ("one.csv", ROWS))], headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_an_idempotency_key_with_another_body_or_other_options_is_refused(api: Any) -> None:
    assert (await api.load("shop.orders", ROWS, idempotency_key="k3")).status_code == 201
    for body, params in ((b"a,b\n2,y\n", {}), (ROWS, {"header": "false"})):
        answer = await api.load("shop.orders", body, params=params, idempotency_key="k3")
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/idempotency-key-reused"
    assert len(await api.rows("shop.orders")) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("text/csv; charset=utf-8", "text/csv; charset=latin-1"),
        ("text/csv", "text/tab-separated-values"),
        ("text/csv; header=present", "text/csv; header=absent"),
    ],
)
async def test_an_idempotency_key_with_another_content_type_is_refused(api: Any, first: str, second: str) -> None:
    assert (await api.load("shop.orders", ROWS, idempotency_key="k7", content_type=first)).status_code == 201
    answer = await api.load("shop.orders", ROWS, idempotency_key="k7", content_type=second)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-key-reused"
    again = await api.load("shop.orders", ROWS, idempotency_key="k7", content_type=first)
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_idempotency_key_whose_first_request_still_runs_is_409_before_the_body_is_read(api: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> Any:
        yield b"a,b\n"
        begun.set()
        await go_on.wait()
        yield b"1,x\n"

    first = asyncio.create_task(api.load("shop.orders", slowly(), idempotency_key="k4"))
    await begun.wait()

    async def registered() -> bool:
        return bool((await api.client.get("/v1/loads")).json()["items"])

    await eventually(registered)
    second = await api.load("shop.orders", ROWS, idempotency_key="k4")
    assert second.status_code == 409
    assert second.headers["retry-after"]
    go_on.set()
    assert (await first).status_code == 201


async def test_the_key_of_a_failed_load_can_be_used_again(api: Any) -> None:
    assert (await api.load("shop.orders", b"", idempotency_key="k5")).status_code == 422
    assert (await api.load("shop.orders", ROWS, idempotency_key="k5")).status_code == 201


async def test_a_key_is_one_tenants_and_one_tables(api: Any, make: Any, ingest_url: str) -> None:
    assert (await api.load("shop.orders", ROWS, idempotency_key="k6")).status_code == 201
    other_table = await api.load("shop.returns", ROWS, idempotency_key="k6")
    other_tenant = await make(ingest_url, f"{api.tenant}x").load("shop.orders", ROWS, idempotency_key="k6")
    for answer in (other_table, other_tenant):
        assert answer.status_code == 201
        assert "idempotency-replayed" not in answer.headers


async def test_a_full_queue_answers_503_before_the_body_is_read(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    app = create_app(settings(catalog.url, tmp_path / "spool", job=JobSettings(workers=1, queue=1)))
    async with serving(app) as url:
        api = make(url, tenant)
        go_on = asyncio.Event()

        async def slowly() -> Any:
            yield b"a,b\n1,x\n"
            await go_on.wait()

        held = [asyncio.create_task(api.load("shop.orders", slowly())) for _ in range(2)]

        async def both_are_there() -> bool:
            return len((await api.client.get("/v1/loads")).json()["items"]) == 2

        await eventually(both_are_there)
        refused = await api.load("shop.orders", ROWS)
        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/load-queue-full"
        assert refused.headers["retry-after"]
        go_on.set()
        assert [(await task).status_code for task in held] == [201, 201]
