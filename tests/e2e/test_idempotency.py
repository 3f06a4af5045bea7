"""A key makes a load happen once, however often it is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
from suites import Push

BODY = b"a,b\n1,x\n2,y\n"


def test_a_repeated_key_returns_the_first_receipt_and_loads_once(lake: httpx.Client, push: Push, table: str) -> None:
    key = {"Idempotency-Key": str(uuid4())}

    first = push(table, BODY, headers=key)
    second = push(table, BODY, headers=key)

    assert first.status_code == 201, first.text
    assert second.is_success, second.text
    assert second.json() == first.json()
    namespace, _, name = table.rpartition(".")
    rows = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "ndjson"}).text.splitlines()
    assert len(rows) == 2


def test_the_same_key_with_another_body_is_refused(push: Push, table: str) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    push(table, BODY, headers=key)

    answer = push(table, BODY + b"3,z\n", headers=key)

    assert answer.status_code == 422, answer.text
    assert "Idempotency-Key" in answer.json()["title"] + answer.json()["detail"]


def test_the_same_body_without_a_key_loads_twice(lake: httpx.Client, push: Push, table: str) -> None:
    first, second = push(table, BODY).json(), push(table, BODY).json()

    assert first["load_id"] != second["load_id"]


def test_a_key_sent_twice_at_once_loads_once(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, BODY)
    key = {"Idempotency-Key": str(uuid4())}

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: push(table, BODY, headers=key), range(4)))

    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 201, 409}, [answer.text for answer in answers]
    loaded = {answer.json()["load_id"] for answer in answers if answer.is_success}
    assert len(loaded) == 1
    namespace, _, name = table.rpartition(".")
    rows = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "ndjson"}).text.splitlines()
    assert len(rows) == 4


def test_two_loads_to_one_table_at_once_both_commit(lake: httpx.Client, push: Push, table: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: push(table, b"a\n%d\n" % number), range(8)))

    assert [answer.status_code for answer in answers] == [201] * 8, [answer.text for answer in answers]
    namespace, _, name = table.rpartition(".")
    rows = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "csv"}).text.split()
    assert sorted(rows[1:]) == [str(number) for number in range(8)]


def test_first_loads_into_a_new_namespace_at_once_all_commit(lake: httpx.Client, push: Push) -> None:
    namespace = f"e2e{uuid4().hex[:12]}.deep"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: push(f"{namespace}.t{number}", b"a\n1\n"), range(8)))

    assert [answer.status_code for answer in answers] == [201] * 8, [answer.text for answer in answers]
