"""The rows of a body as the bytes that were sent: no number is read and written again on its way to the table."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import zstandard

from lakegate_chassis.problems import FieldError, TooLarge
from lakegate_ingest.errors import BadRows, CorruptEncoding, TooManyRows, UnsupportedEncoding

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_GZIP = 31  # zlib's code for a gzip header
# Fed in pieces, as what is behind a member's end is copied for each member.
_PIECE_BYTES = 16 * 1024
# Each costs some microseconds, in which nobody else is served.
_MOST_MEMBERS = 10_000


def split(body: bytes, *, most_rows: int, most_row_bytes: int) -> list[bytes]:
    """The rows of a JSON array, of one object, or of lines. Raises BadRows, TooManyRows."""
    stripped = body.strip()
    if not stripped:
        raise BadRows("There is no row in the body. Send a JSON object, an array of them, or one object a line.")
    if stripped.startswith(b"["):
        try:
            rows = [bytes(row) for row in _ARRAY.decode(stripped)]
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRows(f"The body is not a valid JSON array: {error}.") from error
        # A row is one line on its way; what breaks lines between tokens of JSON is white space.
        rows = [row.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in row or b"\r" in row else row for row in rows]
    else:
        rows = [line for line in stripped.split(b"\n") if line and not line.isspace()]
        if len(rows) > 1 and not _is_json(rows[0]) and _is_json(stripped):
            rows = [stripped.replace(b"\r", b" ").replace(b"\n", b" ")]  # one object over several lines
    if not rows:
        raise BadRows("The array is empty. Send at least one row.")
    if len(rows) > most_rows:
        raise TooManyRows(f"The request has {len(rows):,} rows; {most_rows:,} are taken at once. Send it in parts.")
    if max(map(len, rows)) > most_row_bytes:
        long = [index for index, row in enumerate(rows) if len(row) > most_row_bytes]
        raise BadRows(
            f"A row has at most {most_row_bytes:,} bytes. Nothing of the request was taken.",
            errors=[FieldError(detail="the row is too long", pointer=f"/{index}") for index in long[:100]],
        )
    return rows


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def decoded(body: bytes, encodings: Sequence[str], *, most_bytes: int) -> bytes:
    """The body without its Content-Encoding. Raises UnsupportedEncoding, CorruptEncoding, TooLarge."""
    for encoding in reversed(encodings):
        match encoding:
            case "identity":
                continue
            case "gzip":
                body = _gunzip(body, most_bytes)
            case "zstd":
                body = _unzstd(body, most_bytes)
            case _:
                raise UnsupportedEncoding(f"The Content-Encoding {encoding[:40]!r} is not gzip or zstd.")
    return body


def _gunzip(body: bytes, most_bytes: int) -> bytes:
    """All members (RFC 1952, 2.2): writers of logs append one after the other."""
    plain = bytearray()

    def inflate(inflater: Any, piece: memoryview) -> bytes:
        found: bytes = inflater.decompress(piece, most_bytes + 1 - len(plain))
        return found

    for part in _parts(body, lambda: zlib.decompressobj(_GZIP), inflate, "gzip"):
        plain += part
        if len(plain) > most_bytes:
            raise too_large(most_bytes)
    return bytes(plain)


def _unzstd(body: bytes, most_bytes: int) -> bytes:
    """All frames (RFC 8878, 3.1)."""
    # Of the library's readers one stops at a bound, and does not say whether a frame was whole; another says that, and
    # has no bound: it comes second, when it is known how much there is.
    made = zstandard.ZstdDecompressor(max_window_size=1 << 25)
    try:
        with made.stream_reader(body, read_across_frames=True) as reader:
            plain = reader.read(most_bytes + 1)
    except zstandard.ZstdError as error:
        raise CorruptEncoding(f"The body is not whole zstd: {error}. Nothing was taken.") from error
    if len(plain) > most_bytes:
        raise too_large(most_bytes)
    return b"".join(_parts(body, made.decompressobj, lambda inflater, piece: inflater.decompress(piece), "zstd"))


def _parts(
    body: bytes, begin: Callable[[], Any], inflate: Callable[[Any, memoryview], bytes], name: str
) -> Iterator[bytes]:
    """What becomes of members or frames, one after the other. Raises CorruptEncoding unless all of them are whole."""
    view = memoryview(body)
    at = members = 0
    while at < len(view):
        members += 1
        if members > _MOST_MEMBERS:
            raise CorruptEncoding(f"The body has more than {_MOST_MEMBERS:,} {name} members. Nothing was taken.")
        inflater = begin()
        try:
            while not inflater.eof and at < len(view):
                piece = view[at : at + _PIECE_BYTES]
                yield inflate(inflater, piece)
                at += len(piece) - len(inflater.unused_data)
        except (zlib.error, zstandard.ZstdError) as error:
            raise CorruptEncoding(
                f"The body is not whole {name}: {error}, at byte {at:,} of {len(view):,} or later. Nothing was taken."
            ) from error
        if not inflater.eof:
            raise CorruptEncoding(f"The {name} body is cut off. Nothing was taken.")


def too_large(most_bytes: int) -> TooLarge:
    """With the slug that the gateway has for it, which refuses such a body first where it is not compressed."""
    return TooLarge(
        f"A request to a stream has at most {most_bytes:,} bytes, decompressed. Send it in parts, or as a load.",
        limit_bytes=most_bytes,
    )
