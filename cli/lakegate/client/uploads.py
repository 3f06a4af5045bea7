"""What a push sends: where the bytes come from, how they are counted, and the request's parameters."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal
from uuid import uuid4

from lakegate.client.operations import table_path

Source = str | Path | bytes | IO[bytes] | Iterable[bytes]
Uploaded = Callable[[int, int | None], None]
Format = Literal["csv", "tsv", "ndjson", "json", "parquet"]

# Larger blocks gain nothing over a socket; smaller ones cost a Python round trip each.
BLOCK_BYTES = 256 * 1024

_ENCODINGS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_CONTENT_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True)
class Body:
    """The bytes of one upload. `size_bytes` is None when unknown; `open` begins anew each time if `replayable`."""

    open: Callable[[], Iterator[bytes]]
    name: str | None
    size_bytes: int | None
    replayable: bool

    def blocks(self, uploaded: Uploaded | None) -> Iterator[bytes]:
        """The bytes in blocks; `uploaded(sent, total)` is called after each one is handed to the socket."""
        sent = 0
        for block in self.open():
            yield block
            sent += len(block)
            if uploaded is not None:
                uploaded(sent, self.size_bytes)


@dataclass(frozen=True)
class Upload:
    """A POST of one file to a table."""

    table: str
    body: Body
    format: Format | None = None
    on_new_column: Literal["evolve", "reject"] | None = None
    null: Sequence[str] = ()
    delimiter: str | None = None
    header: bool | None = None
    dry_run: bool = False
    content_encoding: str | None = None
    wait_seconds: int = 30
    # Random for each push: to push a file twice on purpose loads it twice, while the retries of one push load it once.
    # A caller who wants "this file at most once" gives a key of their own, such as the file's sha256.
    idempotency_key: str | None = field(default_factory=lambda: str(uuid4()))

    @classmethod
    def of(cls, source: Source, table: str, *, name: str | None, wait_seconds: int, **options: Any) -> Upload:
        """The upload of anything that can be sent; the encoding follows from the name where none is given."""
        body = read_source(source, name)
        options.setdefault("content_encoding", encoding_of(body.name))
        return cls(table, body, wait_seconds=wait_seconds, **options)

    @property
    def path(self) -> str:
        return f"/v1/loads/{table_path(self.table)}"

    @property
    def replayable(self) -> bool:
        """Whether it may be sent again: the server knows the key, and the bytes can be read anew."""
        return self.idempotency_key is not None and self.body.replayable

    def params(self) -> dict[str, str | list[str]]:
        params: dict[str, str | list[str]] = {"mode": "append"}
        if self.body.name:
            params["name"] = self.body.name
        if self.format:
            params["format"] = self.format
        if self.on_new_column:
            params["on_new_column"] = self.on_new_column
        if self.null:
            params["null"] = list(self.null)
        if self.delimiter is not None:
            params["delimiter"] = self.delimiter
        if self.header is not None:
            params["header"] = str(self.header).lower()
        if self.dry_run:
            params["dry_run"] = "true"
        return params

    def headers(self) -> dict[str, str]:
        headers = {"Prefer": f"wait={self.wait_seconds}"}
        content_type = _CONTENT_TYPES.get(self.format or "", "application/octet-stream")
        headers["Content-Type"] = content_type
        if self.body.size_bytes is not None:
            headers["Content-Length"] = str(self.body.size_bytes)
        if self.idempotency_key is not None:
            headers["Idempotency-Key"] = self.idempotency_key
        if self.content_encoding:
            headers["Content-Encoding"] = self.content_encoding
        return headers


def read_source(source: Source, name: str | None = None) -> Body:
    """A path, bytes, a file object opened for bytes, or an iterable of bytes. Raises OSError for a missing file."""
    if isinstance(source, str | Path):
        path = Path(source)
        return Body(lambda: _file_blocks(path), name or path.name, path.stat().st_size, replayable=True)
    if isinstance(source, bytes):
        content = source
        return Body(lambda: _blocks(io.BytesIO(content)), name, len(content), replayable=True)
    if isinstance(source, io.TextIOBase):
        raise TypeError("The file is open as text, and bytes are sent: open it by open(path, 'rb'), or give its path.")
    if isinstance(source, io.IOBase) or hasattr(source, "read"):
        return _file_object(source, name)  # type: ignore[arg-type]
    return Body(lambda: iter(source), name, None, replayable=False)


def encoding_of(name: str | None) -> str | None:
    """The content encoding that a file name implies: gzip for `flights.csv.gz`."""
    return _ENCODINGS.get(Path(name).suffix.lower()) if name else None


def _file_object(stream: IO[bytes], name: str | None) -> Body:
    name = name or _name_of(stream)
    if not stream.seekable():
        return Body(lambda: _blocks(stream), name, None, replayable=False)
    start = stream.tell()
    size = stream.seek(0, os.SEEK_END) - start
    stream.seek(start)

    def again() -> Iterator[bytes]:
        stream.seek(start)
        return _blocks(stream)

    return Body(again, name, size, replayable=True)


def _name_of(stream: IO[bytes]) -> str | None:
    name = getattr(stream, "name", None)
    return Path(name).name if isinstance(name, str) and not name.startswith("<") else None


def _file_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from _blocks(stream)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block
