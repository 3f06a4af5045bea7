"""Signatures against the examples of Amazon's own documentation (Authenticating Requests: AWS Signature Version 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from lakegate_catalog.files import bodies
from lakegate_catalog.files.dialect import S3Error
from lakegate_catalog.files.sigv4 import Signature, Signed, Verified, verify

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
THEN = datetime(2013, 5, 24, tzinfo=UTC)
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HOST = "examplebucket.s3.amazonaws.com"


def header(signed: str, signature: str) -> str:
    return (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed},Signature={signature}"
    )


GET = Signed(
    "GET",
    "/test.txt",
    "",
    {"host": HOST, "range": "bytes=0-9", "x-amz-content-sha256": EMPTY, "x-amz-date": "20130524T000000Z"},
)
GET_HEADER = header(
    "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
)
LIST = Signed(
    "GET",
    "/",
    "prefix=J&max-keys=2",
    {"host": HOST, "x-amz-content-sha256": EMPTY, "x-amz-date": "20130524T000000Z"},
)
LIST_HEADER = header(
    "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
)


def code(header_: str, request: Signed, *, secret: str = SECRET, now: datetime = THEN) -> str:
    """The code of the refusal, empty when it is accepted."""
    try:
        verify(Signature.parse(header_), request, secret, now=now)
    except S3Error as error:
        return error.code
    return ""


def changed(request: Signed, **headers: str) -> Signed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Signed(request.method, request.path, request.query, {**request.headers, **named})


def test_the_signatures_of_the_documentation_are_accepted() -> None:
    assert code(GET_HEADER, GET) == ""
    assert code(LIST_HEADER, LIST) == ""


@pytest.mark.parametrize(
    "request_",
    [
        Signed("PUT", GET.path, "", GET.headers),
        Signed("GET", "/other.txt", "", GET.headers),
        Signed("GET", GET.path, "versionId=1", GET.headers),
        changed(GET, range="bytes=0-99"),
        changed(GET, host="elsewhere"),
        changed(GET, x_amz_content_sha256="0" * 64),
        changed(GET, x_amz_date="20130524T000001Z"),
    ],
)
def test_whatever_is_changed_breaks_the_signature(request_: Signed) -> None:
    assert code(GET_HEADER, request_) == "SignatureDoesNotMatch"


def test_another_secret_another_time_and_headers_beside_the_signature_are_refused() -> None:
    assert code(GET_HEADER, GET, secret="wrong") == "SignatureDoesNotMatch"
    assert code(GET_HEADER, GET, now=THEN + timedelta(minutes=16)) == "RequestTimeTooSkewed"
    assert code(GET_HEADER, GET, now=THEN - timedelta(minutes=16)) == "RequestTimeTooSkewed"
    assert code(GET_HEADER, changed(GET, x_amz_security_token="t")) == "AccessDenied"
    assert code(GET_HEADER.replace("host;", ""), GET) == "AccessDenied"


@pytest.mark.parametrize("broken", ["", "Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c"])
def test_a_header_that_is_no_signature_is_a_bad_request(broken: str) -> None:
    assert code(broken, GET) == "InvalidRequest"


SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = (
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)


def chunked(content: bytes) -> bytes:
    body = b""
    for size, signature in CHUNKS:
        data, content = content[:size], content[size:]
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (size, signature.encode(), data)
    return body


def put() -> Verified:
    request = Signed(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "",
        {
            "host": "s3.amazonaws.com",
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "content-length": "66824",
        },
    )
    signed = (
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class"
    )
    return verify(Signature.parse(header(signed, SEED)), request, SECRET, now=THEN)


async def received(body: bytes, verified: Verified, *, pieces: int = 1000, length: int | None = None) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), pieces):
            yield body[start : start + pieces]

    return b"".join([piece async for piece in bodies.content(stream(), verified, length)])


@pytest.mark.parametrize("pieces", [7, 1000, 100_000])
async def test_a_body_in_signed_chunks_is_put_together(pieces: int) -> None:
    assert await received(chunked(b"a" * 66560), put(), pieces=pieces) == b"a" * 66560


async def test_a_chunk_that_was_changed_cut_off_or_overlong_is_refused() -> None:
    whole = chunked(b"a" * 66560)
    for wrong in (
        chunked(b"a" * 66559 + b"b"),
        whole[:-100],
        whole.replace(b"400;", b"3ff;"),
        whole.replace(b"10000;", b"xyz;"),
        b"",
    ):
        with pytest.raises(S3Error):
            await received(wrong, put())


async def test_a_whole_body_has_to_have_its_hash() -> None:
    verified = Verified(b"", "", "", "", EMPTY)
    assert await received(b"", verified) == b""
    with pytest.raises(S3Error, match="not the one that was signed"):
        await received(b"x", verified)


async def test_a_body_longer_than_it_says_is_refused_at_that_length() -> None:
    unsigned = Verified(b"", "", "", "", bodies.UNSIGNED)
    assert await received(b"x" * 5000, unsigned, length=5000) == b"x" * 5000
    with pytest.raises(S3Error, match="longer than it says"):
        await received(b"x" * 5000, unsigned, length=1)
