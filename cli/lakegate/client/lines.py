"""Lines of a streamed answer: text is broken at line feeds and nowhere else.

`httpx.Response.iter_lines` breaks at U+2028, U+2029, U+0085 and others too, which JSON leaves as they are in texts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
from pydantic import ValidationError

from lakegate.client.errors import BrokenAnswer
from lakegate.client.models import Reject


class _Lines:
    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their line feeds."""
        *ended, rest = data.split(b"\n")
        if ended:
            ended[0] = b"".join([*self._begun, ended[0]])
            self._begun = []
        self._begun.append(rest)
        return [line.removesuffix(b"\r").decode() for line in ended]

    def last(self) -> list[str]:
        """The unfinished last line, if there is one."""
        rest = b"".join(self._begun)
        return [rest.decode()] if rest else []


def reject_of(line: str) -> Reject:
    """Raises BrokenAnswer."""
    try:
        return Reject.model_validate_json(line)
    except ValidationError as error:
        raise BrokenAnswer(f"A line is no rejected row: {line[:200]!r}") from error


def lines_of(response: httpx.Response) -> Iterator[str]:
    lines = _Lines()
    for data in response.iter_bytes():
        yield from lines.feed(data)
    yield from lines.last()


async def alines_of(response: httpx.Response) -> AsyncIterator[str]:
    lines = _Lines()
    async for data in response.aiter_bytes():
        for line in lines.feed(data):
            yield line
    for line in lines.last():
        yield line
