"""Bodies of uploads as S3 clients send them: whole and hashed, unsigned, or in chunks that may be signed each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator

from lakegate_catalog.files.dialect import S3Error, bad_request
from lakegate_catalog.files.sigv4 import Verified

UNSIGNED = "UNSIGNED-PAYLOAD"
_EMPTY = hashlib.sha256().hexdigest()
_CHUNKED = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": True,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": True,
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": False,
}
_MAX_LINE = 4096
# SDKs send chunks of 64 KiB to 16 MiB; one is held until its signature has been checked.
_MAX_CHUNK = 32 << 20


def content(stream: AsyncIterator[bytes], verified: Verified, length: int | None) -> AsyncIterator[bytes]:
    """The file's bytes. Raises S3Error, at the end for a hash that does not match: keep nothing then.

    A body that is longer than `length` is refused too: by it callers decide whether they may hold the whole.
    """
    kind = verified.content_sha256
    if kind == UNSIGNED:
        pieces = stream
    elif kind in _CHUNKED:
        pieces = _chunks(stream, verified if _CHUNKED[kind] else None)
    else:
        pieces = _hashed(stream, kind)
    return pieces if length is None else _no_longer(pieces, length)


async def _no_longer(pieces: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    received = 0
    async for piece in pieces:
        received += len(piece)
        if received > length:
            raise bad_request("The body is longer than it says.")
        yield piece


async def _hashed(stream: AsyncIterator[bytes], expected: str) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    async for piece in stream:
        digest.update(piece)
        yield piece
    if not hmac.compare_digest(digest.hexdigest(), expected):
        raise S3Error(400, "XAmzContentSHA256Mismatch", "The body is not the one that was signed.")


async def _chunks(stream: AsyncIterator[bytes], signed: Verified | None) -> AsyncIterator[bytes]:
    """`aws-chunked`: size and signature on a line, the bytes, and so on to a chunk of size 0; trailers are ignored."""
    reader = _Reader(stream)
    previous = signed.signature if signed else ""
    while True:
        line = (await reader.line()).decode("latin-1")
        size_text, _, extension = line.partition(";")
        try:
            size = int(size_text, 16)
        except ValueError as error:
            raise bad_request("A chunk of the body has no size.") from error
        if not 0 <= size <= _MAX_CHUNK:
            raise bad_request(f"A chunk has {_MAX_CHUNK} bytes at most.")
        data = await reader.exactly(size)
        if signed is not None:
            previous = _check_chunk(signed, previous, data, extension.strip().removeprefix("chunk-signature="))
        if size == 0:
            await reader.rest()
            return
        if await reader.line():
            raise bad_request("A chunk of the body is longer than it says.")
        yield data


def _check_chunk(signed: Verified, previous: str, data: bytes, signature: str) -> str:
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256-PAYLOAD",
            signed.time,
            signed.scope,
            previous,
            _EMPTY,
            hashlib.sha256(data).hexdigest(),
        )
    )
    if not hmac.compare_digest(hmac.new(signed.key, text.encode(), hashlib.sha256).hexdigest(), signature):
        raise S3Error(403, "SignatureDoesNotMatch", "A chunk of the body is not the one that was signed.")
    return signature


class _Reader:
    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._held = bytearray()

    async def line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            if len(self._held) > _MAX_LINE or not await self._more():
                raise bad_request("The chunked body is cut off or malformed.")
        line = bytes(self._held[:end])
        del self._held[: end + 2]
        return line

    async def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            if not await self._more():
                raise bad_request("The chunked body is cut off.")
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def rest(self) -> None:
        """Read what follows the last chunk, and drop it."""
        self._held.clear()
        while await self._more():
            self._held.clear()

    async def _more(self) -> bool:
        async for piece in self._stream:
            if piece:
                self._held += piece
                return True
        return False
