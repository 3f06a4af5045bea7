"""One credential opens REST, Iceberg and OpenLineage alike, and no more than it says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import ForbiddenError
from suites import Push, Suite, need_files_of, until


def new_key(lake: httpx.Client, *scopes: str) -> dict[str, Any]:
    answer = lake.post("/v1/keys", json={"name": "e2e", "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def test_without_a_key_nothing_opens(suite: Suite) -> None:
    answer = httpx.get(f"{suite.url}/v1/datasets", timeout=30)

    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers
    assert answer.json()["type"].startswith("/problems/")


def test_a_wrong_key_is_refused_without_saying_why(suite: Suite) -> None:
    answer = httpx.get(f"{suite.url}/v1/datasets", headers={"Authorization": "Bearer lgk_wrong"}, timeout=30)

    assert answer.status_code == 401


def test_a_reader_reads_and_does_not_load(suite: Suite, lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a\n1\n")
    reader = new_key(lake, "datasets:read")
    namespace, _, name = table.rpartition(".")

    with suite.client(reader["key"]) as client:
        read = client.get(f"/v1/tables/{namespace}/{name}/rows")
        write = client.post(f"/v1/loads/{namespace}/{name}", content=b"a\n2\n")

    assert read.status_code == 200, read.text
    assert write.status_code == 403, write.text


def test_a_key_for_one_namespace_loads_there_and_nowhere_else(suite: Suite, lake: httpx.Client, table: str) -> None:
    namespace, _, name = table.rpartition(".")
    partner = new_key(lake, f"loads:write@{namespace}.*", f"datasets:write@{namespace}.*")

    with suite.client(partner["key"]) as client:
        inside = client.post(f"/v1/loads/{namespace}/{name}", content=b"a\n1\n")
        outside = client.post(f"/v1/loads/elsewhere/{name}", content=b"a\n1\n")

    assert inside.status_code == 201, inside.text
    assert outside.status_code == 403, outside.text


def test_iceberg_clients_are_held_to_the_same_scopes(suite: Suite, lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a\n1\n")
    reader = new_key(lake, "datasets:read")
    catalog = RestCatalog("reader", uri=f"{suite.url}/iceberg", warehouse="lakehouse", token=reader["key"])

    loaded = catalog.load_table(tuple(table.split(".")))

    with pytest.raises(ForbiddenError):
        catalog.drop_table(tuple(table.split(".")))
    need_files_of(suite, loaded.location())
    assert loaded.scan().count() == 1


def test_a_revoked_key_stops_working(suite: Suite, lake: httpx.Client) -> None:
    key = new_key(lake, "datasets:read")
    with suite.client(key["key"]) as client:
        assert client.get("/v1/datasets").status_code == 200

        assert lake.delete(f"/v1/keys/{key['id']}").is_success

        until(lambda: client.get("/v1/datasets").status_code == 401)


def test_keys_are_listed_without_their_secrets(lake: httpx.Client) -> None:
    key = new_key(lake, "datasets:read")

    listed = lake.get("/v1/keys")

    assert key["id"] in [item["id"] for item in listed.json()["items"]]
    assert key["key"] not in listed.text


def test_a_client_gets_a_token_for_its_secret_and_works_with_it(suite: Suite, lake: httpx.Client, table: str) -> None:
    """OAuth's client credentials, as Airflow or a Spark catalog would use them."""
    made = lake.post("/v1/clients", json={"client_id": f"client-{table}", "scopes": ["loads:write", "datasets:write"]})
    assert made.status_code == 201, made.text
    form = {"grant_type": "client_credentials", "client_id": made.json()["client_id"]}

    granted = httpx.post(
        f"{suite.url}/oauth/token", data=form | {"client_secret": made.json()["client_secret"]}, timeout=30
    )
    refused = httpx.post(f"{suite.url}/oauth/token", data=form | {"client_secret": "wrong"}, timeout=30)

    assert granted.status_code == 200, granted.text
    assert refused.status_code == 401
    assert refused.json()["error"] == "invalid_client"
    namespace, _, name = table.rpartition(".")
    with suite.client(granted.json()["access_token"]) as client:
        assert client.post(f"/v1/loads/{namespace}/{name}", content=b"a\n1\n").status_code == 201
        assert client.get("/v1/keys").status_code == 403


def test_a_user_logs_in_and_refreshes(suite: Suite, lake: httpx.Client, table: str) -> None:
    user = {"username": f"ada-{table}", "password": "correct horse battery"}
    assert lake.post("/v1/users", json={**user, "scopes": ["datasets:read"]}).status_code == 201

    first = httpx.post(f"{suite.url}/oauth/token", data={"grant_type": "password", **user}, timeout=30).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = httpx.post(f"{suite.url}/oauth/token", data=form, timeout=30).json()

    with suite.client(second["access_token"]) as client:
        assert client.get("/v1/datasets").status_code == 200
