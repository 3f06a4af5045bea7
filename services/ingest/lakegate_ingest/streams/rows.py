"""The rows of a body as the bytes that were sent: no number is read and written again on its way to the table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lakegate_chassis.problems import FieldError, TooLarge
from lakegate_ingest.errors import BadRows, TooManyRows, UnsupportedEncoding
from lakegate_ingest.spool.decoding import Decoder, Gzip, Zstd

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
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
                decoder: Decoder = Gzip(_MOST_MEMBERS)
            case "zstd":
                decoder = Zstd(_MOST_MEMBERS)
            case _:
                raise UnsupportedEncoding(f"The Content-Encoding {encoding[:40]!r} is not gzip or zstd.")
        plain = bytearray()
        for part in decoder.feed(body):
            plain += part
            if len(plain) > most_bytes:
                raise too_large(most_bytes)
        decoder.finish()
        body = bytes(plain)
    return body


def too_large(most_bytes: int) -> TooLarge:
    """With the slug that the gateway has for it, which refuses such a body first where it is not compressed."""
    return TooLarge(
        f"A request to a stream has at most {most_bytes:,} bytes, decompressed. Send it in parts, or as a load.",
        limit_bytes=most_bytes,
    )
