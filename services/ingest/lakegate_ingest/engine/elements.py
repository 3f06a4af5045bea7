"""The elements of a JSON array, one by one, with the line each begins on; memory is bounded by the longest."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass

import pyarrow as pa

from lakegate_ingest.engine.batch import Split
from lakegate_ingest.engine.errors import InvalidEncoding, InvalidJson, LineTooLong

_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Elements:
    """Records that are split already."""

    raws: list[bytes]
    lines: list[int]

    def split(self) -> Split:
        return Split(pa.array(self.raws, pa.string()), 0, pa.array(self.lines, pa.int64()), breaks="")


class ElementSplitter:
    """Feed it the file in chunks, an empty one at the end. Raises InvalidJson, InvalidEncoding, LineTooLong.

    An array can't be picked up again behind a syntax error, so that ends the load.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._line = self._counted_line = 1
        self._counted = 0
        self._expects = "["
        self.ended = False

    def feed(self, chunk: bytes) -> Elements:
        at_end = not chunk
        try:
            self._text += self._decode(chunk, at_end)
        except UnicodeDecodeError as error:
            raise InvalidEncoding(
                f"'{self._name}' has bytes after line {self._line} that are not UTF-8. JSON must be UTF-8."
            ) from error
        found = Elements([], [])
        position = 0
        while (after := self._step(position, found, at_end)) is not None:
            position = after
        self._line += self._text.count("\n", 0, position)
        self._text = self._text[position:]
        if len(self._text) > self._max_bytes:
            raise LineTooLong(
                f"The element that starts on line {self._line} is not finished after "
                f"{self._max_bytes // (1024 * 1024)} MB. It is too long, or the JSON is broken there."
            )
        self.ended = at_end
        return found

    def _step(self, position: int, found: Elements, at_end: bool) -> int | None:
        """One bracket, comma or element from `position` on; the position after it, None when more text is needed."""
        text = self._text
        start = position
        while start < len(text) and text[start] in _SPACE:
            start += 1
        if start == len(text):
            if at_end and self._expects != "nothing":
                raise self._invalid(start, "the file ends before the array does; it may be cut short")
            return None
        character = text[start]
        if self._expects == "nothing":
            raise self._invalid(start, "there is more text after the array's end")
        if self._expects == "[":
            if character != "[":
                raise self._invalid(start, "an array must begin with [")
            self._expects = "first"
            return start + 1
        if self._expects in ("first", ",") and character == "]":
            self._expects = "nothing"
            return start + 1
        if self._expects == ",":
            if character != ",":
                raise self._invalid(start, "a comma is missing between two elements")
            self._expects = "element"
            return start + 1
        return self._element(start, found, at_end)

    def _element(self, start: int, found: Elements, at_end: bool) -> int | None:
        text = self._text
        try:
            _, end = self._scan(text, start)
        except json.JSONDecodeError as error:
            if at_end:
                raise self._invalid(error.pos, error.msg.lower()) from error
            return None
        except RecursionError as error:
            raise self._invalid(start, "an element is nested too deeply") from error
        if end == len(text) and not at_end:
            return None  # 12 may go on as 123
        # Where a text begins, lines are counted from the last one that was counted: once per element.
        self._line_at(start, found)
        found.raws.append(text[start:end].encode())
        self._expects = ","
        return end

    def _line_at(self, start: int, found: Elements) -> None:
        if not found.lines:
            self._counted, self._counted_line = 0, self._line
        self._counted_line += self._text.count("\n", self._counted, start)
        self._counted = start
        found.lines.append(self._counted_line)

    def _invalid(self, position: int, what: str) -> InvalidJson:
        line = self._line + self._text.count("\n", 0, position)
        return InvalidJson(
            f"'{self._name}', line {line}: {what}. Correct it there; or send one object per line (NDJSON), where a bad "
            "line does not stop the others."
        )
