"""Reading a request's body within a limit, decompressed: a small body may hold a large one."""

from __future__ import annotations

import zlib

from starlette.requests import Request

from lakegate_lineage.errors import EventTooLarge, InvalidEvent, UnsupportedEncoding

GZIP, GZIP_OR_ZLIB = 16 + zlib.MAX_WBITS, 32 + zlib.MAX_WBITS  # the latter tells the two by their first bytes
MAX_MEMBERS = 10_000  # each costs some microseconds, in which nobody else is served


class _Inflater:
    """Gzip of any number of members, as writers that append make it (RFC 1952, 2.2), or one zlib stream."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(GZIP_OR_ZLIB)
        self._members = 0

    def feed(self, data: bytes, most_bytes: int) -> bytes:
        """What becomes of `data`, cut at `most_bytes`. Raises InvalidEvent."""
        plain = bytearray()
        gzipped = self._encoding != "deflate"
        try:
            while data and len(plain) < most_bytes:
                if self._stream.eof:
                    # zeros pad to a block, as tape and some tools leave it
                    data = data.lstrip(b"\x00") if gzipped else data
                    if not data:
                        break
                    if not gzipped or self._members >= MAX_MEMBERS:
                        raise InvalidEvent(f"Something follows the end of the {self._encoding} body.")
                    self._members += 1
                    self._stream = zlib.decompressobj(GZIP)
                plain += self._stream.decompress(data, most_bytes - len(plain))
                data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        except zlib.error as error:
            raise InvalidEvent(f"The body is not {self._encoding}, as Content-Encoding says: {error}.") from error
        return bytes(plain)

    def finish(self) -> None:
        """Raises InvalidEvent."""
        if not self._stream.eof:
            raise InvalidEvent(f"The {self._encoding} body ends too early.")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, gunzipped if need be. Raises EventTooLarge, UnsupportedEncoding, InvalidEvent."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise UnsupportedEncoding(f"Content-Encoding is gzip, deflate or none; {encoding!r} was sent.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    inflater = None if encoding == "identity" else _Inflater(encoding)
    chunks: list[bytes] = []
    received = size = 0
    async for chunk in request.stream():
        received += len(chunk)  # empty members could go on for ever, and come to nothing
        if inflater is not None:
            # one byte more than may come, so that a body that is too large shows
            chunk = inflater.feed(chunk, max_bytes - size + 1)
        size += len(chunk)
        if max(size, received) > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    if inflater is not None:
        inflater.finish()
    return b"".join(chunks)


def _too_large(max_bytes: int) -> EventTooLarge:
    return EventTooLarge(
        f"At most {max_bytes} bytes are taken here, counted after decompression. Leave out large facets, or send "
        "smaller batches."
    )
