"""Numbers that clients write."""

from __future__ import annotations


def natural(text: str | None, digits: int = 18) -> int | None:
    """A whole number, 0 or more, of at most `digits` digits (18 fit into 64 bits); None for anything else.

    `str.isdigit` by itself takes digits of all alphabets and "²", for which `int` raises, and `int` raises at 4,301.
    """
    if text is None or len(text) > digits or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
