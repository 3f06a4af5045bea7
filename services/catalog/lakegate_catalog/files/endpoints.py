"""The S3 endpoint: what engines ask of a table's files. The gateway sends here what is signed, below /files.

Served are GetObject, HeadObject, ListObjectsV2, PutObject, DeleteObject and multipart uploads, path-style, with keys
of `grants.py`; the rest of S3 is refused as NotImplemented.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import format_datetime
from typing import cast
from urllib.parse import parse_qsl, unquote_to_bytes
from xml.sax.saxutils import escape

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lakegate_catalog.files import bodies, sigv4
from lakegate_catalog.files.dialect import (
    DECLARATION,
    XML,
    S3Error,
    bad_request,
    denied,
    in_dialect,
    of_store,
)
from lakegate_catalog.files.grants import Grant, check_key
from lakegate_catalog.files.objects import Described, Listed
from lakegate_catalog.files.slots import READ, WRITE, SlottedResponse
from lakegate_catalog.files.uploads import parse_parts
from lakegate_catalog.resources import Resources
from lakegate_chassis.numerals import natural
from lakegate_chassis.objectstore import STORE_ERRORS
from lakegate_contracts.identity import FILES_PATH, SIGNATURE_HEADER, SIGNED_HOST_HEADER, Principal

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
MAX_XML_BYTES = 2 << 20
MAX_KEYS = 1000
# An SDK gives up an answer that is silent for a few seconds; S3 too sends spaces while it works.
KEEP_ALIVE_SECONDS = 1.0
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")

FILE_BYTES = Counter(
    "lakegate_catalog_file_bytes_total", "Bytes of tables' files, by direction (read, written)", ["way"]
)


class Call:
    """One verified request: whose, for which table, about which key (relative to the warehouse)."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.resources = cast(Resources, request.app.state.resources)
        principal = cast(Principal, request.scope["principal"])
        raw_path = request.scope["raw_path"].decode("latin-1").removeprefix(FILES_PATH)
        query = request.scope["query_string"].decode("latin-1")
        headers = _headers(request)
        signature = sigv4.Signature.parse(headers.get(SIGNATURE_HEADER, ""))
        grants = self.resources.grants
        if not grants.enabled:
            raise denied("No keys for files are handed out here.")
        self.grant: Grant = grants.read(signature.access_key)
        token = headers.get("x-amz-security-token", "")
        signed = sigv4.Signed(request.method, raw_path, query, headers | {"host": headers.get(SIGNED_HOST_HEADER, "")})
        self.verified = sigv4.verify(signature, signed, grants.secret(signature.access_key, token))
        if self.grant.tenant != principal.tenant:
            raise denied("These keys are another tenant's.")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.bucket, self.path = _address(raw_path)

    @property
    def key(self) -> str:
        """The key below the warehouse's location. Raises S3Error for one elsewhere."""
        url = f"s3://{self.bucket}/{self.path}"
        root = f"{self.resources.settings.warehouse.location}/"
        if not url.startswith(root):
            raise denied("These keys are for the files of one table, and this is none of them.")
        return url[len(root) :]

    def reading(self) -> str:
        check_key(self.grant, self.key, write=False)
        return self.key

    def writing(self) -> str:
        check_key(self.grant, self.key, write=True)
        return self.key

    @property
    def length(self) -> int | None:
        """Of the content, where that is known: chunks come on top of it."""
        stated = self.request.headers.get("x-amz-decoded-content-length") or self.request.headers.get("content-length")
        return natural(stated)

    async def body(self) -> AsyncIterator[bytes]:
        async for piece in bodies.content(self.request.stream(), self.verified, self.length):
            FILE_BYTES.labels("written").inc(len(piece))
            yield piece

    async def small_body(self) -> bytes:
        content = bytearray()
        async for piece in self.body():
            content += piece
            if len(content) > MAX_XML_BYTES:
                raise bad_request("The body is too long.")
        return bytes(content)


async def answer(request: Request) -> Response:
    """Find the operation by method and query, as S3's own dispatch does."""
    call = Call(request)
    operation = request.method, next((name for name in ("uploads", "uploadId", "delete") if name in call.query), "")
    match operation:
        case ("GET", "") if not call.path or "list-type" in call.query:
            return await list_objects(call)
        case ("HEAD", "") if not call.path:
            return Response(status_code=200)
        case ("GET", ""):
            return await get_object(call)
        case ("HEAD", ""):
            return await head_object(call)
        case ("PUT", "") if "x-amz-copy-source" not in request.headers:
            return await put_object(call)
        case ("DELETE", ""):
            await call.resources.objects.delete(call.writing())
            return Response(status_code=204)
        case ("POST", "uploads"):
            return await begin_upload(call)
        case ("PUT", "uploadId") if "x-amz-copy-source" not in request.headers:
            return await put_part(call)
        case ("POST", "uploadId"):
            return await complete_upload(call)
        case ("DELETE", "uploadId"):
            key = call.writing()
            await call.resources.uploads.abort(call.grant.tenant, key, call.query["uploadId"])
            return Response(status_code=204)
    raise S3Error(501, "NotImplemented", "This endpoint reads and writes files of tables, and does nothing else.")


async def get_object(call: Call) -> Response:
    headers = call.request.headers
    wanted = _range(headers.get("range"))
    key = call.reading()
    slots = call.resources.slots
    with slots.held(READ):
        described, pieces = await call.resources.objects.open(
            key, wanted, if_match=headers.get("if-match"), if_none_match=headers.get("if-none-match")
        )

    async def counted() -> AsyncIterator[bytes]:
        async for piece in pieces:
            FILE_BYTES.labels("read").inc(len(piece))
            yield piece

    status = 200 if wanted is None else 206
    response = SlottedResponse(counted(), status, _described(described, partial=wanted is not None))
    slots.take(READ)
    response.slots = slots
    return response


async def head_object(call: Call) -> Response:
    wanted = _range(call.request.headers.get("range"))
    described = await call.resources.objects.describe(call.reading(), wanted)
    return Response(
        status_code=200 if wanted is None else 206, headers=_described(described, partial=wanted is not None)
    )


async def put_object(call: Call) -> Response:
    condition = call.request.headers.get("if-none-match")
    if condition not in (None, "*") or "if-match" in call.request.headers:
        raise S3Error(501, "NotImplemented", "The one condition that is checked here is If-None-Match: *.")
    if call.path.endswith("/"):
        return await mark_folder(call)
    key = call.writing()
    with call.resources.slots.held(WRITE):
        etag = await call.resources.objects.write(key, call.body(), length=call.length, create=condition is not None)
    return Response(status_code=200, headers={"etag": etag})


async def mark_folder(call: Call) -> Response:
    """After a delete Arrow writes an empty object with the folder's name, so that its listings show one. Listings here
    do without it, and nothing is stored."""
    check_key(call.grant, f"{call.key}marker", write=True)
    if await call.small_body():
        raise bad_request("A key that ends with a slash names a folder, which has no content.")
    return Response(status_code=200, headers={"etag": '"d41d8cd98f00b204e9800998ecf8427e"'})


async def list_objects(call: Call) -> Response:
    """ListObjectsV2 below the table's folder; a prefix in the middle of a name is as good as any."""
    query = call.query
    prefix = query.get("prefix", "")
    folder = f"s3://{call.bucket}/{prefix}".rpartition("/")[0]
    root = call.resources.settings.warehouse.location
    below = f"{folder}/".removeprefix(f"{root}/").rstrip("/")
    table = call.grant.folder
    if not f"{folder}/".startswith(f"{root}/") or not f"{below}/".startswith(f"{table}/"):
        # a client looks whether the folder itself is there
        if f"s3://{call.bucket}/{prefix}".rstrip("/") != f"{root}/{table}":
            raise denied("These keys are for the files of another table.")
        below = table
    token, delimiter = query.get("continuation-token"), query.get("delimiter")
    after = _from_token(token) if token else query.get("start-after", "")
    wanted = natural(query.get("max-keys"))
    limit = MAX_KEYS if wanted is None else max(1, min(wanted, MAX_KEYS))
    # keys as the client knows them: with what the location has beyond the bucket
    above = root.removeprefix(f"s3://{call.bucket}").strip("/")
    above = f"{above}/" if above else ""
    found: list[Listed] = []
    folders: list[str] = []
    last = ""
    following = None
    async for item in call.resources.objects.list(below, after=after.removeprefix(above) or None):
        name = above + item.key
        if not name.startswith(prefix):
            continue
        if folders and name.startswith(folders[-1]):
            last = name
            continue
        if len(found) + len(folders) == limit:
            following = base64.urlsafe_b64encode(last.encode()).decode()
            break
        last = name
        rest, separator, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if separator:
            folders.append(f"{prefix}{rest}{separator}")
        else:
            found.append(item)
    return _xml(_listing(call, prefix, above, found, folders, limit, following))


async def begin_upload(call: Call) -> Response:
    call.writing()
    upload_id = call.resources.uploads.begin()
    inner = f"<Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.path)}</Key><UploadId>{upload_id}</UploadId>"
    return _xml(f"<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>")


async def put_part(call: Call) -> Response:
    key = call.writing()
    with call.resources.slots.held(WRITE):
        etag = await call.resources.uploads.put_part(
            call.grant.tenant,
            key,
            call.query["uploadId"],
            natural(call.query.get("partNumber")) or 0,
            call.body(),
            call.length,
        )
    return Response(status_code=200, headers={"etag": etag})


async def complete_upload(call: Call) -> Response:
    key = call.writing()
    parts = parse_parts(await call.small_body())
    task = asyncio.ensure_future(_complete(call, key, parts))
    done, _ = await asyncio.wait([task], timeout=KEEP_ALIVE_SECONDS)
    if done:
        return _xml(_completed(call, task.result()))

    async def slowly() -> AsyncIterator[bytes]:
        """The status is sent: what goes wrong now is told in the body, as S3 does."""
        yield DECLARATION
        try:
            while not (await asyncio.wait([task], timeout=KEEP_ALIVE_SECONDS))[0]:
                yield b" "
            yield _completed(call, task.result()).encode()
        except S3Error as error:
            yield error.element()
        except STORE_ERRORS as error:
            yield of_store(error).element()
        finally:
            # who hangs up has not completed: what is half written is dropped by the store
            task.cancel()

    return StreamingResponse(slowly(), media_type=XML)


async def _complete(call: Call, key: str, parts: list[tuple[int, str]]) -> str:
    with call.resources.slots.held(WRITE):
        return await call.resources.uploads.complete(call.grant.tenant, key, call.query["uploadId"], parts)


def routes() -> list[Route]:
    return [Route(f"{FILES_PATH}/{{path:path}}", in_dialect(answer), methods=list(METHODS))]


def _headers(request: Request) -> dict[str, str]:
    """One value a name; repeated ones are joined, as they are signed."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _address(raw_path: str) -> tuple[str, str]:
    """Bucket and key of a path-style address."""
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as error:
        raise bad_request("A key is UTF-8.") from error
    bucket, _, key = path.lstrip("/").partition("/")
    return bucket, key


def _range(header: str | None) -> tuple[int | None, int | None] | None:
    """(first, last), (first, None) or (None, length of the end); None for none, or for one to be ignored (RFC 9110)."""
    found = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if found is None or found[1] == found[2] == "":
        return None
    first = int(found[1]) if found[1] else None
    last = int(found[2]) if found[2] else None
    return None if first is not None and last is not None and last < first else (first, last)


def _described(described: Described, *, partial: bool) -> dict[str, str]:
    headers = {
        "content-type": "application/octet-stream",
        "content-length": str(described.end - described.start),
        "last-modified": format_datetime(described.modified_at.astimezone(UTC), usegmt=True),
        "etag": described.etag,
        "accept-ranges": "bytes",
    }
    if partial:
        headers["content-range"] = f"bytes {described.start}-{described.end - 1}/{described.size}"
    return headers


def _listing(
    call: Call, prefix: str, above: str, found: list[Listed], folders: list[str], limit: int, following: str | None
) -> str:
    parts = [
        f"<Name>{escape(call.bucket)}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>",
        f"<KeyCount>{len(found) + len(folders)}</KeyCount>",
        f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>",
    ]
    if following:
        parts.append(f"<NextContinuationToken>{following}</NextContinuationToken>")
    for item in found:
        moment = item.modified_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        parts.append(
            f"<Contents><Key>{escape(above + item.key)}</Key><LastModified>{moment}</LastModified>"
            f"<ETag>{escape(item.etag)}</ETag><Size>{item.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    parts += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders]
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>"


def _completed(call: Call, etag: str) -> str:
    inner = f"<Bucket>{escape(call.bucket)}</Bucket><Key>{escape(call.path)}</Key><ETag>{escape(etag)}</ETag>"
    return f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>"


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise bad_request("The continuation token is none that was given here.") from error


def _xml(element: str) -> Response:
    return Response(DECLARATION + element.encode(), media_type=XML)
