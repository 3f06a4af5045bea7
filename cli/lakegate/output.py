"""Where words go: rich on a terminal, plain lines without one, one JSON document with --json."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lakegate.text import json_for_terminals, styled, visible

# Without a terminal nothing may be cut or wrapped: a line is a record for the next program.
_UNBOUNDED = 100_000
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


@dataclass(frozen=True)
class Column:
    """`right` for numbers; `style` a rich style; `wrap` for prose."""

    header: str
    right: bool = False
    style: str = ""
    wrap: bool = False


class Output:
    """One command's voice. In JSON mode stdout carries the result and nothing else; notes go to stderr.

    A string is shown as it is: names and values come from anybody. What has a style is a Text, made by `styled`.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.rich = sys.stdout.isatty() and not as_json
        width = None if self.rich else _UNBOUNDED
        self._out = Console(file=sys.stdout, width=width, soft_wrap=not self.rich, **_PLAIN)
        self._err = Console(file=sys.stderr, soft_wrap=True, **_PLAIN)

    @property
    def console(self) -> Console:
        return self._out

    @property
    def errors(self) -> Console:
        return self._err

    def show(self, *renderables: RenderableType) -> None:
        """For people; nothing in JSON mode."""
        if self.as_json:
            return
        shown = [_shown(item) for item in renderables]
        if self.rich:
            self._out.print(*shown, sep="\n")
            return
        # Tables pad their last column to its width: no program wants that.
        with self._out.capture() as capture:
            self._out.print(*shown, sep="\n")
        lines = capture.get().removesuffix("\n").split("\n")
        sys.stdout.write("".join(line.rstrip(" ") + "\n" for line in lines))

    def result(self, data: Any, *renderables: RenderableType) -> None:
        """The command's answer: `data` as JSON, or what is drawn of it."""
        if self.as_json:
            # One line for a program, which can then read line by line what a long-running `up` says.
            indent = 2 if sys.stdout.isatty() else None
            document = json.dumps(plain(data), ensure_ascii=False, allow_nan=False, indent=indent)
            sys.stdout.write(json_for_terminals(document) + "\n")
            sys.stdout.flush()
        else:
            self.show(*renderables)

    def note(self, text: str | Text, style: str = "") -> None:
        """A line aside: on stderr in JSON mode, so that stdout stays a document."""
        (self._err if self.as_json else self._out).print(_shown(text), style=style)

    def heading(self, text: str) -> None:
        """A step of a longer story."""
        if self.rich:
            self.show(Text(), styled(("▌", "bold cyan"), " ", (text, "bold")))
        else:
            self.show(Text(), styled(f"== {text}"))

    def panel(self, title: str, body: RenderableType, *, style: str = "cyan") -> RenderableType:
        """A frame around something on a terminal; its title as a line of its own without one."""
        if not self.rich:
            return Group(styled(f"-- {title}"), body)
        return Panel(body, title=styled((title, "bold")), title_align="left", border_style=style, expand=False)

    def pairs(self, rows: Iterable[tuple[str, RenderableType]]) -> RenderableType:
        """Names and values in two columns."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(_shown(name), _shown(value))
        return table

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[RenderableType]], *, title: str | None = None
    ) -> RenderableType:
        """A table; without a terminal aligned columns and no lines."""
        table = Table(
            box=box.ROUNDED if self.rich else None,
            border_style="bright_black",
            header_style="bold",
            pad_edge=self.rich,
            title=styled((title, "bold cyan")) if title and self.rich else None,
            title_justify="left",
            title_style="",
        )
        for column in columns:
            table.add_column(
                _shown(column.header),
                justify="right" if column.right else "left",
                style=column.style,
                no_wrap=not column.wrap or not self.rich,
                overflow="fold" if column.wrap else "ellipsis",
            )
        for row in rows:
            table.add_row(*(_shown(cell) for cell in row))
        return Group(styled(f"-- {title}"), table) if title and not self.rich else table

    def beside(self, *parts: RenderableType) -> RenderableType:
        """Side by side where the terminal is wide enough, else under each other."""
        if not self.rich:
            return Group(*parts)
        widest = [Measurement.get(self._out, self._out.options, part).maximum for part in parts]
        if sum(widest) + 2 * len(parts) > self._out.width:
            return Group(*parts)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(*parts)
        return grid


def _shown(item: RenderableType) -> RenderableType:
    return Text(visible(item)) if isinstance(item, str) else item


def plain(value: Any) -> Any:
    """What JSON has: models by their wire names, NaN, infinity, decimals and bytes as the rows endpoint writes them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
