"""What was received, as it is stored: formats named from first bytes, records counted, files described."""

from __future__ import annotations

import codecs

from lakegate_ingest import engine
from lakegate_ingest.loads.reading import read_options
from lakegate_ingest.loads.schemas import LoadOptions, StoredFile
from lakegate_ingest.spool.media_types import check_media_type
from lakegate_ingest.spool.receiving import ReceivedBody
from lakegate_ingest.spool.sinks import Counter, Opener, SpooledFile


def opener_for(options: LoadOptions) -> Opener:
    """Names the format from the first bytes, and counts records of every text format."""

    def opener(name: str, content_type: str, head: bytes) -> tuple[str, Counter | None]:
        check_media_type(content_type, named=options.format is not None)
        declared = engine.Format(options.format) if options.format is not None else None
        encoding = read_options(engine.Format.CSV, content_type, options).encoding
        if encoding is not None and encoding.startswith(("utf-16", "utf-32")):
            # Without its mark it looks like no text at all; once the sender has named it, it is some.
            head = _as_utf8(head, encoding, name)
        format_ = engine.detect_bytes(head, name, content_type or None, declared=declared)
        if format_ is engine.Format.PARQUET:
            return format_.value, None
        return format_.value, engine.RecordCounter(read_options(format_.value, content_type, options))

    return opener


def _as_utf8(head: bytes, encoding: str, name: str) -> bytes:
    """Raises InvalidEncoding. The head may end within a character, and Parquet is told by its bytes as they are."""
    if head.startswith(b"PAR1"):
        return head
    try:
        return codecs.getincrementaldecoder(encoding)("replace").decode(head).encode()
    except UnicodeError as error:
        raise engine.InvalidEncoding(
            f"The file '{name}' can't be read as {encoding}: {error}. Name its real encoding: "
            "Content-Type: text/csv; charset=…, or save it as UTF-8."
        ) from error


def stored(file: SpooledFile, records: int | None = None, malformed: bool = False) -> StoredFile:
    return StoredFile(
        name=file.name,
        spool_name=file.path.name,
        format=file.format,
        content_type=file.content_type,
        sha256=file.sha256,
        sent_bytes=file.sent_bytes,
        size_bytes=file.size_bytes,
        records=records,
        malformed=malformed,
    )


def stored_files(body: ReceivedBody) -> list[StoredFile]:
    """Blocks: the counters finish here."""
    files = []
    for file in body.files:
        if file.counter is None:
            files.append(stored(file))
        else:
            records = file.counter.finish()
            files.append(stored(file, records, file.counter.malformed))
    return files
