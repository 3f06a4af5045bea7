"""multipart/form-data with several files, one spool file a part (RFC 7578). Form fields without a file are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from lakegate_ingest.errors import BadMultipart, TooManyFiles, UnsupportedEncoding
from lakegate_ingest.spool.decoding import Decoder, Identity
from lakegate_ingest.spool.headers import BadHeader, HeaderValue, parse_header
from lakegate_ingest.spool.media_types import check_media_type
from lakegate_ingest.spool.sinks import SpooledFile


class PartSink(Protocol):
    def feed(self, chunks: Sequence[bytes]) -> None: ...

    def close(self) -> SpooledFile: ...

    def abort(self) -> None: ...


# (index, file name, headers by lower-case name) -> where the part goes
OpenPart = Callable[[int, str, Mapping[str, str]], PartSink]

# What may stand before the first boundary; nobody sends more than a line there, for people whose reader knows no MIME.
_MAX_PREAMBLE_BYTES = 8 << 10

# Codings that leave bytes as they are. Forms have no other (RFC 7578, 4.7), e-mail's tools add them.
_AS_IT_IS = ("", "7bit", "8bit", "binary")


class MultipartSink:
    """Feeds each part to a sink of its own; nothing of a part's data is kept in memory."""

    def __init__(self, boundary: str, *, max_files: int, open_part: OpenPart, transport: Decoder | None = None) -> None:
        self._transport = transport or Identity()
        self._max_files = max_files
        self._open_part = open_part
        self._sink: PartSink | None = None
        self._pending: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._field = b""
        self._value = b""
        self._complete = False
        self._first_boundary = b"--" + boundary.encode("latin-1")
        self._preamble: bytes | None = b""
        self.files: list[SpooledFile] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadMultipart(f"The multipart boundary can't be used: {error}.") from error

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Parse what was received; raises BodyError and SpoolFull."""
        for chunk in chunks:
            for decoded in self._transport.feed(chunk):
                try:
                    self._parser.write(self._without_preamble(decoded))
                except FormParserError as error:
                    raise BadMultipart(f"The multipart body is malformed: {error}.") from error
                self._flush()

    def close(self) -> list[SpooledFile]:
        """The files, once the last boundary has arrived. Raises BadMultipart when it has not."""
        self._transport.finish()
        if self._preamble is not None:
            raise BadMultipart("The multipart body has no line with the boundary that its Content-Type names.")
        if not self._complete:
            raise BadMultipart(
                "The multipart body ends before its last boundary: it was cut off. Send it again, whole."
            )
        if not self.files:
            raise BadMultipart("The multipart body holds no file. Send each file as a part with a file name.")
        return self.files

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()

    def _without_preamble(self, data: bytes) -> bytes:
        """What stands before the first boundary is to be ignored (RFC 2046, 5.1.1). Raises BadMultipart."""
        if self._preamble is None:
            return data
        begun = self._preamble + data
        if begun.startswith(self._first_boundary):
            self._preamble = None
            return begun
        at = begun.find(b"\n" + self._first_boundary)
        if at >= 0:
            self._preamble = None
            return begun[at + 1 :]
        if len(begun) > _MAX_PREAMBLE_BYTES:
            raise BadMultipart(
                f"The multipart body has no line with its boundary in its first {_MAX_PREAMBLE_BYTES:,} bytes."
            )
        self._preamble = begun
        return b""

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        if len(self.files) >= self._max_files:
            raise TooManyFiles(
                f"One load takes at most {self._max_files} files. Send the rest as further loads.",
                limit_files=self._max_files,
            )
        disposition = _parsed("Content-Disposition", self._headers.get("content-disposition", ""))
        name = disposition.get("filename")
        if name is None:
            field = disposition.get("name") or ""
            raise BadMultipart(
                f"The part '{field[:60]}' has no file name. Every part is a file; options go in the query string."
            )
        coding = self._headers.get("content-transfer-encoding", "").strip()
        if coding.lower() not in _AS_IT_IS:
            raise UnsupportedEncoding(
                f"Content-Transfer-Encoding '{coding[:40]}' of a part is not read here. Send the file as it is."
            )
        self._sink = self._open_part(len(self.files), name, self._headers)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pending.append(data[start:end])

    def _flush(self) -> None:
        if self._pending and self._sink is not None:
            self._sink.feed(self._pending)
            self._pending = []

    def _on_part_end(self) -> None:
        self._flush()
        if self._sink is not None:
            self.files.append(self._sink.close())
            self._sink = None

    def _on_end(self) -> None:
        self._complete = True


def boundary_of(content_type: str) -> str | None:
    """The boundary of a multipart/form-data Content-Type, None for one that is not multipart.

    Raises BadMultipart, and UnsupportedMediaType for the other kinds of multipart.
    """
    if not content_type.lstrip().lower().startswith("multipart/"):
        return None  # what its parameters are worth is seen where they are used
    header = _parsed("Content-Type", content_type)
    if header.value != "multipart/form-data":
        check_media_type(header.value)
        return None
    boundary = header.get("boundary")
    if not boundary or not boundary.isascii():
        raise BadMultipart("The Content-Type multipart/form-data names no boundary, or one that is not ASCII.")
    return boundary


def _parsed(name: str, text: str) -> HeaderValue:
    try:
        return parse_header(name, text)
    except BadHeader as error:
        raise BadMultipart(str(error)) from error
