"""Numbers, sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from lakegate.text import visible

_UNITS = ("B", "KB", "MB", "GB", "TB")


def count(number: int | None) -> str:
    """`336,776`; a dash for what isn't known."""
    return "-" if number is None else f"{number:,}"


def size(number: float | None) -> str:
    """Decimal units: 31,053,850 is `31.1 MB`."""
    if number is None:
        return "-"
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("the last unit ends the loop")


def seconds(number: float) -> str:
    """`85 ms`, `4.2 s`, `3 min 05 s`."""
    if number < 1:
        return f"{number * 1000:.0f} ms"
    return f"{number:.1f} s" if number < 60 else f"{int(number // 60)} min {int(number % 60):02d} s"


def moment(at: datetime | None) -> str:
    """RFC 3339 to the second, in UTC."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def value(item: Any, longest: int = 60) -> Text:
    """A cell: whole numbers as they are (years and ids take no commas), null dim, control characters visible."""
    if item is None:
        return Text("null", style="dim italic")
    if isinstance(item, bool):
        return Text(str(item).lower())
    shown = visible(str(item))
    return Text(shown if len(shown) <= longest else shown[: longest - 1] + "…")
