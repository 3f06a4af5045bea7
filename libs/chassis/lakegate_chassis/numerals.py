"""Numbers that clients write."""

from __future__ import annotations


def natural(text: str | None, digits: int = 18) -> int | None:
    """A whole number from 0 on of at most so many digits (18 fit into 64 bits); None is anything else.

    `str.isdigit` by itself takes digits of all alphabets and "²", for which `int` raises, and `int` raises at 4,301.
    """
    if text is None or len(text) > digits or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
