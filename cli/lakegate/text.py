"""Text as it is: nothing in it is markup, the name of an emoji, or an order to the terminal."""

from __future__ import annotations

import re
import unicodedata
from typing import TypeAlias

from rich.text import Text

Part: TypeAlias = str | Text | tuple[str, str]

# Control and format characters (ESC, a change of direction), halves of a pair, and other ends of a line.
_OBEYED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_NOT_ASCII_PRINTABLE = re.compile(r"[^ -~]")


def visible(text: str) -> str:
    """What a terminal or a reader would obey is written as in Python: `\\x1b`, `\\n`, `\\u2028`."""
    return text if text.isprintable() else _NOT_ASCII_PRINTABLE.sub(_written, text)


def visible_lines(text: str, indent: int) -> str:
    """The same for words of several lines, as DuckDB has them; what follows the first is indented."""
    return f"\n{' ' * indent}".join(visible(line) for line in re.split(r"\r?\n", text))


def styled(*parts: Part) -> Text:
    """Text of several styles: `styled(("12:00:03", "dim"), " ready")`."""
    return Text.assemble(*(_literal(part) for part in parts))


def json_for_terminals(document: str) -> str:
    """A JSON document of the same value, with escapes for the characters that a terminal obeys and JSON lets pass."""
    if document.isprintable():
        return document
    return _NOT_ASCII_PRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else _in_json(found[0]), document)


def _literal(part: Part) -> Text | tuple[str, str]:
    if isinstance(part, tuple):
        return visible(part[0]), part[1]
    return part if isinstance(part, Text) else Text(visible(part))


def _written(found: re.Match[str]) -> str:
    character = found[0]
    obeyed = unicodedata.category(character) in _OBEYED
    return character.encode("unicode_escape").decode("ascii") if obeyed else character


def _in_json(character: str) -> str:
    if unicodedata.category(character) not in _OBEYED:
        return character
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at : at + 2].hex()}" for at in range(0, len(halves), 2))
