"""Content-Encoding, undone as the bytes arrive, with bounded output a step and a limit on the whole (RFC 9110, 8.4)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from lakegate_ingest.errors import CorruptEncoding, DecompressionBomb, UnsupportedEncoding
from lakegate_ingest.settings import BodySettings

STEP_BYTES = 1 << 20
# What is behind the end of a member is copied for each member: of a piece of this size that is little.
GZIP_FEED_BYTES = 16 << 10
# One zstd block of 4 bytes can stand for 128 KiB: feeding 1 KiB at a time bounds one step's output to 32 MiB.
ZSTD_FEED_BYTES = 1024
# `zstd --ultra -22` needs 128 MiB to undo; everything up to level 19 fits in 8 MiB.
ZSTD_MAX_WINDOW = 1 << 23
# Below this the ratio says nothing: a few lines of zeros compress far better than a file does.
RATIO_FLOOR_BYTES = 64 << 20
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A skippable frame, which pzstd and seekable formats begin with: sixteen magic numbers (RFC 8878, 3.1.2).
ZSTD_SKIPPABLE_MAGIC = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))


class Decoder(Protocol):
    """Turns what was sent into what was meant; `finish` raises CorruptEncoding on a stream that stops short."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None: ...


class Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class Members:
    """Members of gzip, frames of zstd: how many have begun. A limit is for those who decode where others wait."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.begun = 0

    def begin(self) -> None:
        """Raises CorruptEncoding."""
        self.begun += 1
        if self._most is not None and self.begun > self._most:
            raise CorruptEncoding(
                f"The body has more than {self._most:,} compressed parts in a row. Compress it as one."
            )


class Gzip:
    """RFC 1952, several members in a row included (`cat a.gz b.gz`)."""

    def __init__(self, most_members: int | None = None) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self._members = Members(most_members)

    def feed(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        try:
            for start in range(0, len(view), GZIP_FEED_BYTES):
                part = bytes(view[start : start + GZIP_FEED_BYTES])
                while part:
                    if self._inflate.eof:
                        part = part.lstrip(b"\x00")  # padding to a block, as tape and some tools leave it
                        if not part:
                            break
                        self._inflate = zlib.decompressobj(wbits=31)
                        self._members.begin()
                    elif not self._members.begun:
                        self._members.begin()
                    out = self._inflate.decompress(part, STEP_BYTES)
                    part = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
                    if out:
                        yield out
        except zlib.error as error:
            raise CorruptEncoding(f"The gzip stream is damaged ({error}). Compress the file again.") from error

    def finish(self) -> None:
        if not self._members.begun or not self._inflate.eof:
            raise CorruptEncoding(
                "The gzip stream ends before its end mark: it was cut off. Nothing was loaded; send the whole file."
            )


class Zstd:
    """RFC 8878, several frames in a row included."""

    def __init__(self, most_members: int | None = None) -> None:
        self._codec = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW)
        self._frame = self._codec.decompressobj()
        self._members = Members(most_members)

    def feed(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        try:
            for start in range(0, len(view), ZSTD_FEED_BYTES):
                part = bytes(view[start : start + ZSTD_FEED_BYTES])
                while part:
                    if self._frame.eof:
                        self._frame = self._codec.decompressobj()
                        self._members.begin()
                    elif not self._members.begun:
                        self._members.begin()
                    out = self._frame.decompress(part)
                    part = self._frame.unused_data if self._frame.eof else b""
                    if out:
                        yield out
        except zstandard.ZstdError as error:
            raise CorruptEncoding(
                f"The zstd stream can't be read ({error}). Compress the file again, at level 19 or below."
            ) from error

    def finish(self) -> None:
        if not self._members.begun or not self._frame.eof:
            raise CorruptEncoding(
                "The zstd stream ends inside a frame: it was cut off. Nothing was loaded; send the whole file."
            )


class Limited:
    """A decoder that stops a bomb: by ratio once enough came out, and by the absolute size of what came out."""

    def __init__(self, inner: Decoder, limits: BodySettings) -> None:
        self._inner = inner
        self._max_decoded_bytes = limits.max_decoded_bytes
        self._max_ratio = limits.max_ratio
        self._bytes_in = 0
        self._bytes_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._bytes_in += len(data)
        for out in self._inner.feed(data):
            self._bytes_out += len(out)
            if self._bytes_out > self._max_decoded_bytes:
                raise DecompressionBomb(
                    f"The body decompresses to more than {self._max_decoded_bytes:,} bytes. Load the file in parts.",
                    limit_bytes=self._max_decoded_bytes,
                )
            if self._bytes_out > RATIO_FLOOR_BYTES and self._bytes_out > self._bytes_in * self._max_ratio:
                raise DecompressionBomb(
                    f"The body decompresses to more than {self._max_ratio} times its size, as a zip bomb does. "
                    "If the data is real, send it less compressed, or not compressed.",
                    limit_ratio=self._max_ratio,
                )
            yield out

    def finish(self) -> None:
        self._inner.finish()


def decoder_for(content_encoding: str | None, limits: BodySettings) -> Decoder | None:
    """The decoder a Content-Encoding header asks for; None when it names none. Raises UnsupportedEncoding."""
    coding = (content_encoding or "identity").strip().lower()
    if coding in ("identity", ""):
        return None
    if coding in ("gzip", "x-gzip"):
        return Limited(Gzip(), limits)
    if coding == "zstd":
        return Limited(Zstd(), limits)
    raise UnsupportedEncoding(
        f"Content-Encoding '{coding[:40]}' is not read here. Send gzip, zstd, or the file as it is.",
        headers={"Accept-Encoding": "gzip, zstd"},
    )


def decoder_by_magic(head: bytes, limits: BodySettings) -> Decoder | None:
    """A compressed file sent without saying so (`curl -T flights.csv.gz`). No format we load begins like this."""
    if head.startswith(GZIP_MAGIC):
        return Limited(Gzip(), limits)
    if head.startswith((ZSTD_MAGIC, *ZSTD_SKIPPABLE_MAGIC)):
        return Limited(Zstd(), limits)
    return None
