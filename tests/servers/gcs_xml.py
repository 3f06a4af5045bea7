"""GCS's XML API in front of fake-gcs-server, which reads by it and can't write by it ("invalid uploadType").

obstore speaks that API alone. Objects, generations and preconditions are fake-gcs-server's, asked in JSON; ours are the
other shape of each call, the parts of an upload until it is complete, If-Match, and the check of who asks: a token
that the service account signed itself, or a URL that it signed (V4). `python -m servers.gcs_xml PORT UPSTREAM KEY`,
KEY being a file with the account's public key.
"""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import httpx
import jwt
import uvicorn
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

MOST_PARTS_BYTES = 256 << 20
_CONDITION = "x-goog-if-generation-match"
_HOST = "storage.googleapis.com"
_ALGORITHM = "GOOG4-RSA-SHA256"


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


class Front:
    def __init__(self, upstream: str, key: RSAPublicKey) -> None:
        self._key = key
        self._client = httpx.AsyncClient(base_url=upstream, trust_env=False, timeout=30)
        self._parts: dict[str, dict[int, bytes]] = {}

    async def respond(self, request: Request) -> Response:
        try:
            self._check(request)
            bucket, _, name = unquote(request.scope["raw_path"].decode()).lstrip("/").partition("/")
            return await self._answer(request, bucket, name)
        except Refused as refused:
            return Response(f"<Error><Code>{refused}</Code></Error>", refused.status, media_type="application/xml")

    async def _answer(self, request: Request, bucket: str, name: str) -> Response:
        query = request.query_params
        upload = query.get("uploadId", "")
        if upload and upload not in self._parts:
            raise Refused(404, "NoSuchUpload")
        match request.method:
            case "GET" if not name:
                return await self._list(bucket, query)
            case "GET" | "HEAD":
                return await self._read(request, bucket, name)
            case "POST" if "uploads" in query:
                upload = uuid4().hex
                self._parts[upload] = {}
                return _xml(
                    f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                )
            case "PUT" if upload:
                return await self._put_part(request, upload)
            case "POST" if upload:
                return await self._complete(request, bucket, name, upload)
            case "DELETE" if upload:
                del self._parts[upload]
                return Response(status_code=204)
            case "PUT" if "x-goog-copy-source" in request.headers:
                source, _, copied = unquote(request.headers["x-goog-copy-source"]).lstrip("/").partition("/")
                path = f"{_path(source, copied)}/rewriteTo{_path(bucket, name).removeprefix('/storage/v1')}"
                answer = await self._ask("POST", path, params=_condition(request), json={})
                return Response(headers=_described(answer.json()["resource"]))
            case "PUT":
                return await self._put(bucket, name, await _body(request), _condition(request))
            case "DELETE":
                await self._ask("DELETE", _path(bucket, name))
                return Response(status_code=204)
        raise Refused(405, "MethodNotAllowed")

    async def _put(self, bucket: str, name: str, content: bytes, condition: dict[str, str]) -> Response:
        params = {"uploadType": "media", "name": name, **condition}
        answer = await self._ask("POST", f"/upload/storage/v1/b/{bucket}/o", params=params, content=content)
        return Response(headers=_described(answer.json()))

    async def _read(self, request: Request, bucket: str, name: str) -> Response:
        described = _described((await self._ask("GET", _path(bucket, name))).json())
        wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
        if wanted not in (None, "*", described["etag"]):
            raise Refused(412, "PreconditionFailed")
        if unwanted is not None and unwanted in ("*", described["etag"]):
            return Response(status_code=304)
        size = int(described.pop("size"))
        if request.method == "HEAD":
            return Response(headers=described | {"content-length": str(size)})
        asked = {"range": request.headers["range"]} if "range" in request.headers else {}
        path = _path(bucket, name)
        answer = await self._ask("GET", path, params={"alt": "media"}, headers=asked)
        place = {"content-range": answer.headers["content-range"]} if answer.status_code == 206 else {}
        return Response(answer.content, answer.status_code, described | place)

    async def _list(self, bucket: str, query: Any) -> Response:
        after = query.get("start-after", "")
        params = {"prefix": query.get("prefix", ""), "delimiter": query.get("delimiter", "")}
        params |= {"maxResults": query.get("max-keys", "1000"), "pageToken": query.get("continuation-token", "")}
        # theirs includes the name itself
        params["startOffset"] = f"{after}\0" if after else ""
        named = {name: value for name, value in params.items() if value}
        found = (await self._ask("GET", f"/storage/v1/b/{bucket}/o", params=named)).json()
        parts = [
            f"<Contents><Key>{escape(item['name'])}</Key><LastModified>{item['updated']}</LastModified>"
            f"<ETag>{escape(_etag(item))}</ETag><Size>{item['size']}</Size></Contents>"
            for item in found.get("items", ())
        ]
        parts += [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in found.get("prefixes", ())
        ]
        token = found.get("nextPageToken")
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        flag = "true" if token else "false"
        return _xml(f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{more}{''.join(parts)}</ListBucketResult>")

    async def _put_part(self, request: Request, upload: str) -> Response:
        content = await _body(request)
        if sum(len(part) for parts in self._parts.values() for part in parts.values()) > MOST_PARTS_BYTES:
            raise Refused(413, "EntityTooLarge")
        if upload not in self._parts:
            raise Refused(404, "NoSuchUpload")  # given up while its part was on the way
        self._parts[upload][int(request.query_params["partNumber"])] = content
        return Response(headers={"etag": _digest(content)})

    async def _complete(self, request: Request, bucket: str, name: str, upload: str) -> Response:
        named = ElementTree.fromstring(await request.body())
        parts = self._parts[upload]
        content = []
        for part in named.iter():
            if part.tag.rpartition("}")[2] != "Part":
                continue
            values = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
            found = parts.get(int(values["PartNumber"]))
            if found is None or values["ETag"].strip('"') != _digest(found).strip('"'):
                raise Refused(400, "InvalidPart")
            content.append(found)
        answer = await self._put(bucket, name, b"".join(content), {})
        del self._parts[upload]
        etag = escape(answer.headers["etag"])
        result = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        return _xml(result)

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self._client.request(method, path, **options)
        if answer.status_code >= 400:
            raise Refused(answer.status_code, answer.text[:200])
        return answer

    def _check(self, request: Request) -> None:
        """Raises Refused unless the account signed the request's token, or its URL."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "Bearer":
            try:
                jwt.decode(token, self._key, algorithms=["RS256"], options={"verify_aud": False})
            except jwt.InvalidTokenError as error:
                raise Refused(401, "AuthenticationRequired") from error
            return
        query = dict(parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True))
        try:
            signature = bytes.fromhex(query.pop("X-Goog-Signature"))
            moment, scope = query["X-Goog-Date"], query["X-Goog-Credential"].partition("/")[2]
            begins = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            ends = begins + timedelta(seconds=int(query["X-Goog-Expires"]))
            names = query["X-Goog-SignedHeaders"].split(";")
        except (KeyError, ValueError) as error:
            raise Refused(401, "AuthenticationRequired") from error
        pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
        # obstore signs for GCS's own host, wherever it was told that GCS is
        sent = dict(request.headers) | {"host": _HOST}
        headers = "".join(f"{name}:{sent.get(name, '')}\n" for name in names)
        path = request.scope["raw_path"].decode()
        canonical = "\n".join([request.method, path, pairs, headers, ";".join(names), "UNSIGNED-PAYLOAD"])
        text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        try:
            self._key.verify(signature, text.encode(), PKCS1v15(), SHA256())
        except InvalidSignature as error:
            raise Refused(403, "SignatureDoesNotMatch") from error
        if datetime.now(UTC) > ends:
            raise Refused(403, "ExpiredToken")


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise Refused(400, "IncompleteBody") from error


def _condition(request: Request) -> dict[str, str]:
    return {"ifGenerationMatch": request.headers[_CONDITION]} if _CONDITION in request.headers else {}


def _described(resource: dict[str, Any]) -> dict[str, str]:
    updated = datetime.fromisoformat(resource["updated"])
    return {
        "etag": _etag(resource),
        "last-modified": format_datetime(updated.astimezone(UTC), usegmt=True),
        "x-goog-generation": str(resource["generation"]),
        "size": str(resource["size"]),
    }


def _etag(resource: dict[str, Any]) -> str:
    # by its generation, as a composed object's: two writes of the same bytes differ
    return f'"{resource["generation"]}"'


def _digest(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def _xml(element: str) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{element}', media_type="application/xml")


def main(port: str, upstream: str, key: str) -> None:
    public = load_pem_public_key(Path(key).read_bytes())
    assert isinstance(public, RSAPublicKey)
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", Front(upstream, public).respond, methods=methods)])
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
