"""The answer to a query."""

from __future__ import annotations

from rich.console import RenderableType

from lakegate.lakehouse import Answer
from lakegate.output import Column, Output
from lakegate.render import words


def answer(output: Output, answer: Answer) -> RenderableType:
    columns = [Column(name, right=numeric) for name, numeric in answer.columns]
    return output.table(columns, ([words.value(cell) for cell in row] for row in answer.rows))
