"""Secrets of an embedded suite: made once, kept in files of mode 0600."""

from __future__ import annotations

import secrets
from pathlib import Path

from lakegate.profiles import write_private


def secret(path: Path, prefix: str = "") -> str:
    """The secret in `path`, made at random (256 bits, behind `prefix`) when there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = prefix + secrets.token_urlsafe(32)
        write_private(path, made + "\n")
        return made
