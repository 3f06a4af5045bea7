"""Requests signed as S3's are: who sent them is known by their session token, what they may do is the catalog's."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

SIGNED = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


async def file_token(client: httpx.AsyncClient) -> str:
    """As the catalog gets it with a request for a table."""
    answer = await client.get("/iceberg/v1/config")
    return str(answer.json()["headers"]["lakegate-file-token"])


def signed(token: str | None = None, **more: str) -> dict[str, str]:
    headers = {"authorization": SIGNED} | ({"x-amz-security-token": token} if token else {})
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


def code(answer: httpx.Response) -> str:
    return ElementTree.fromstring(answer.content).findtext("Code") or ""


@pytest.mark.parametrize("path", ["/lake/a%20b=c/x.parquet?list-type=2", "/v1/keys", "/iceberg/v1/config", "/"])
async def test_a_signed_request_goes_to_the_catalog_with_what_was_signed_whatever_its_path(
    gateway: Any, path: str
) -> None:
    token = await file_token(gateway.admin)
    async with gateway.client() as anybody:
        seen = (await anybody.get(path, headers=signed(token, lakegate_signature="forged"))).json()
    assert seen["service"] == "catalog"
    assert seen["path"] + (f"?{seen['query']}" if seen["query"] else "") == f"/files{path}"
    assert seen["headers"]["lakegate-signature"] == SIGNED
    assert seen["headers"]["lakegate-signed-host"] == gateway.url.removeprefix("http://")
    assert seen["principal"]["scopes"] == []


async def test_a_body_is_streamed_on_whatever_its_length(gateway: Any) -> None:
    token = await file_token(gateway.admin)
    async with gateway.client() as anybody:
        seen = (await anybody.put("/lake/x", content=b"x" * 3_000_000, headers=signed(token))).json()
        assert seen["body_bytes"] == 3_000_000
        over = await anybody.put("/lake/x", content=b"x" * (5 << 20), headers=signed(token))
    assert (over.status_code, code(over)) == (413, "EntityTooLarge")


async def test_a_signature_without_our_session_token_is_refused_in_s3_s_words(gateway: Any) -> None:
    login = await gateway.key("datasets:read")
    async with gateway.client() as anybody:
        for token in (None, "x", login, "a.b.c"):
            answer = await anybody.get("/lake/x", headers=signed(token))
            assert (answer.status_code, code(answer)) == (403, "ExpiredToken")
    assert not gateway.services["catalog"].requests


async def test_a_file_token_is_no_bearer_token(gateway: Any) -> None:
    token = await file_token(gateway.admin)
    async with gateway.client(token) as client:
        assert (await client.get("/v1/datasets")).status_code == 401


async def test_what_a_client_says_of_signatures_and_file_tokens_is_dropped(gateway: Any) -> None:
    forged = dict.fromkeys(("lakegate-signature", "lakegate-signed-host", "lakegate-file-token"), "forged")
    seen = (await gateway.admin.get("/v1/datasets", headers=forged)).json()
    assert not forged.keys() & seen["headers"].keys()
    table = (await gateway.admin.get("/iceberg/v1/config", headers=forged)).json()
    assert table["headers"]["lakegate-file-token"] != "forged"


@pytest.mark.parametrize("how", ["key", "password"])
async def test_a_file_token_ends_with_the_credential_that_it_was_handed_out_for(gateway: Any, how: str) -> None:
    if how == "key":
        made = (await gateway.admin.post("/v1/keys", json={"name": "k", "scopes": ["datasets:read"]})).json()
        client = gateway.client(made["key"])
    else:
        user = {"username": "ada", "password": "a long enough password", "scopes": ["datasets:read"]}
        assert (await gateway.admin.post("/v1/users", json=user)).status_code == 201
        client = gateway.new_client(auth=("ada", user["password"]))
    async with client, gateway.client() as anybody:
        token = await file_token(client)
        assert (await anybody.get("/lake/x", headers=signed(token))).status_code == 200
        if how == "key":
            assert (await gateway.admin.delete(f"/v1/keys/{made['id']}")).status_code == 204
        else:
            changed = {"password": "another long password"}
            assert (await gateway.admin.put("/v1/users/ada/password", json=changed)).status_code == 204
        assert (await anybody.get("/lake/x", headers=signed(token))).status_code == 403
