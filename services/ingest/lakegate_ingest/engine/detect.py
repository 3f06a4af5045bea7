"""Which format a body has, from what the sender says and from its first bytes; what is not text is refused here."""

from __future__ import annotations

import codecs
import json
from pathlib import PurePosixPath

from lakegate_ingest.engine.delimiters import HEAD_BYTES, sniff_delimiter
from lakegate_ingest.engine.errors import EmptyBody, InvalidEncoding, InvalidJson, NotText, UnknownFormat
from lakegate_ingest.engine.model import Format

_MAGIC = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document; save the sheet as CSV",
    b"\x1f\x8b": "gzip; send it with Content-Encoding: gzip",
    b"\x28\xb5\x2f\xfd": "zstd; send it with Content-Encoding: zstd",
    b"BZh": "bzip2; decompress it first",
    b"\xfd7zXZ": "xz; decompress it first",
    b"%PDF": "a PDF; export the table as CSV",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"Obj\x01": "Avro; convert it to Parquet",
    b"ORC": "ORC; convert it to Parquet",
    b"ARROW1": "Arrow IPC; convert it to Parquet",
    b"\x7fELF": "a program",
}
_TYPES = {
    "text/csv": Format.CSV,
    "application/csv": Format.CSV,
    "text/tab-separated-values": Format.TSV,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "application/x-jsonlines": Format.NDJSON,
    "application/json": Format.JSON,
    "application/vnd.apache.parquet": Format.PARQUET,
    "application/x-parquet": Format.PARQUET,
    "application/parquet": Format.PARQUET,
}
_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".json": Format.JSON,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
# the longer ones first: that of UTF-32-LE begins with that of UTF-16-LE
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a\x1b"))


def detect_bytes(
    head: bytes, name: str | None = None, content_type: str | None = None, declared: Format | None = None
) -> Format:
    """`declared` (the format= parameter), else Content-Type, else the file name, else what the bytes look like.

    `head` is the first 64 KB after decompression. JSON whose first character opens an object is read as
    NDJSON. Raises EmptyBody, NotText (with what it is instead), InvalidEncoding, InvalidJson, UnknownFormat.
    """
    file = _called(name)
    if not head:
        if name:
            raise EmptyBody(f"{file} has no bytes. Send one with at least one row: curl -T file.csv <url>.")
        raise EmptyBody("The body has no bytes. Send the file as the body: curl -T file.csv <url>.")
    claimed = declared or _claimed(name, content_type)
    if head[:4] == b"PAR1":
        if claimed not in (None, Format.PARQUET):
            raise NotText(f"{file} was sent as {claimed}, but it is Parquet. Send it with format=parquet.")
        return Format.PARQUET
    if claimed is Format.PARQUET:
        raise NotText(f"{file} was sent as parquet, but does not begin with 'PAR1'. Send it as what it is.")
    refuse_binary(head, name)
    text = head.decode(text_encoding(head, None), "replace").removeprefix("\ufeff")
    if not text.strip():
        raise EmptyBody(f"{file if name else 'The body'} holds only blank lines. Send a file with at least one row.")
    if claimed in (Format.JSON, Format.NDJSON) or claimed is None:
        return _json_kind(text, claimed, file, cut=len(head) >= HEAD_BYTES)
    return claimed


def text_encoding(head: bytes, encoding: str | None) -> str:
    """The codec to read a text file with: the given one, UTF-16 or UTF-32 by its byte order mark, else UTF-8."""
    if encoding is not None:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise InvalidEncoding(
                f"The encoding '{encoding}' is not known. Use utf-8, utf-16, latin-1, cp1252 or another name "
                "from https://docs.python.org/3/library/codecs.html#standard-encodings."
            ) from error
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def refuse_binary(head: bytes, name: str | None) -> None:
    """Raises NotText when `head` is of a known binary format, or has bytes that no text has."""
    if text_encoding(head, None) != "utf-8":
        return
    file = _called(name)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise NotText(f"{file} is not text but {what}.")
    if b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) > len(head) // 4:
            encoding = f"utf-{32 if even + odd > len(head) // 2 else 16}-{'be' if even > odd else 'le'}"
            raise NotText(
                f"{file} looks like {encoding[:6].upper()} without a byte order mark. Save it as UTF-8, or name its "
                f"encoding: Content-Type: text/csv; charset={encoding}."
            )
        raise NotText(f"{file} has zero bytes, so it is not text. Send CSV, TSV, NDJSON, JSON or Parquet.")
    if len(head) - len(head.translate(None, _CONTROL)) > len(head) // 10:
        raise NotText(f"{file} is full of control characters, so it is not text. Send CSV, NDJSON or Parquet.")


def _claimed(name: str | None, content_type: str | None) -> Format | None:
    media = (content_type or "").partition(";")[0].strip().lower()
    if media in _TYPES:
        return _TYPES[media]
    return _SUFFIXES.get(PurePosixPath((name or "").lower()).suffix)


def _called(name: str | None) -> str:
    return f"The file '{name}'" if name else "The file"


def _json_kind(text: str, claimed: Format | None, file: str, *, cut: bool) -> Format:
    start = text.lstrip()
    if claimed is Format.NDJSON:
        if _is_array(start):
            raise InvalidJson(
                f"{file} is a JSON array, and was sent as NDJSON. Send it as .json or with format=json; or write one "
                "object per line."
            )
        return claimed
    if start.startswith("[") and (claimed is Format.JSON or start[1:].lstrip()[:1] in ("{", "]", "")):
        return Format.JSON
    if start.startswith("{"):
        line, newline, _ = start.partition("\n")
        if not newline and cut:
            return Format.NDJSON
        try:
            json.loads(line)
        except ValueError as error:
            if claimed is None and ":" not in line and len(line) > 1:
                raise UnknownFormat(
                    f"The format of {file[0].lower()}{file[1:]} can't be told. Name it: format=csv, or format=ndjson."
                ) from error
            raise InvalidJson(
                f"{file} begins with an object that does not end on its first line. Send one object per line "
                "(NDJSON), or an array of objects: [{...}, {...}]."
            ) from error
        return Format.NDJSON
    if claimed is Format.JSON:
        raise InvalidJson("JSON must be an array of objects, or one object per line (NDJSON).")
    return Format.TSV if sniff_delimiter(text.encode()) == "\t" else Format.CSV


def _is_array(start: str) -> bool:
    """Whether one array of objects is all there is; an array on a line of its own, among others, is a bad record."""
    if not start.startswith("[") or start[1:].lstrip()[:1] not in ("{", ""):
        return False
    line, _, rest = start.partition("\n")
    try:
        json.loads(line)
    except ValueError:
        return True
    return not rest.strip()
