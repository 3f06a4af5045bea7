"""Reading a request's body within a limit, decompressed: a small body may hold a large one."""

from __future__ import annotations

import zlib

from starlette.requests import Request

from lakegate_lineage.errors import EventTooLarge, InvalidEvent, UnsupportedEncoding

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # tells the two by their first bytes


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, gunzipped if need be. Raises EventTooLarge, UnsupportedEncoding, InvalidEvent."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise UnsupportedEncoding(f"Content-Encoding is gzip, deflate or none; {encoding!r} was sent.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    inflate = None if encoding == "identity" else zlib.decompressobj(GZIP_OR_ZLIB)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        if inflate is not None:
            try:
                # one byte more than may come, so that a body that is too large shows
                chunk = inflate.decompress(chunk, max_bytes - size + 1)
            except zlib.error as error:
                raise InvalidEvent(f"The body is not {encoding}, as Content-Encoding says: {error}.") from error
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    if inflate is not None and not inflate.eof:
        raise InvalidEvent(f"The {encoding} body ends too early.")
    return b"".join(chunks)


def _too_large(max_bytes: int) -> EventTooLarge:
    return EventTooLarge(
        f"At most {max_bytes} bytes are taken here, counted after decompression. Leave out large facets, or send "
        "smaller batches."
    )
