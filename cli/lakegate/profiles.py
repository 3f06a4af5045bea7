"""Profiles: named pairs of URL and key in one TOML file of mode 0600."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakegate.settings import Environment

LOCAL = "local"


class ProfileError(Exception):
    """The message says what is missing and how to give it."""


@dataclass(frozen=True)
class Profile:
    """Where a gateway is and what opens it. `key` is None for a gateway that asks for none, as health probes do."""

    name: str
    url: str
    key: str | None


@dataclass(frozen=True)
class Profiles:
    """The config file as read: the profiles by name and the one used when none is named."""

    profiles: dict[str, Profile]
    default: str | None


def read_profiles(path: Path) -> Profiles:
    """An absent file is an empty one. Raises ProfileError for one that is no TOML of ours."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Profiles({}, None)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is no valid TOML: {error}. Mend or remove it.") from error
    except OSError as error:
        raise ProfileError(f"{path} can't be read: {error.strerror}.") from error
    found = {}
    tables = document.get("profiles", {})
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if not isinstance(table, dict) or not isinstance(table.get("url"), str):
            raise ProfileError(f'{path}: profile "{name}" has no url. Add url = "http://…" below [profiles.{name}].')
        key = table.get("key")
        found[name] = Profile(name, table["url"], key if isinstance(key, str) else None)
    default = document.get("default")
    return Profiles(found, default if isinstance(default, str) else None)


def save_profile(path: Path, profile: Profile) -> None:
    """Add or replace one profile; the first one saved becomes the default. Written whole, then renamed."""
    known = read_profiles(path)
    profiles = {**known.profiles, profile.name: profile}
    lines = [f"default = {_quoted(known.default or profile.name)}"]
    for item in profiles.values():
        lines += ["", f"[profiles.{_quoted(item.name)}]", f"url = {_quoted(item.url)}"]
        if item.key is not None:
            lines.append(f"key = {_quoted(item.key)}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, "\n".join(lines) + "\n")


def choose(environment: Environment, name: str | None) -> Profile:
    """The profile to use: an explicit name, LAKEGATE_URL, LAKEGATE_PROFILE, the file's default. Raises ProfileError."""
    if name is None and environment.url is not None:
        return Profile("environment", environment.url.rstrip("/"), environment.key)
    known = read_profiles(environment.config)
    wanted = name or environment.profile or known.default
    if wanted is None:
        raise ProfileError(
            "No gateway is configured. Start one with `lakegate up`, or set LAKEGATE_URL and LAKEGATE_KEY."
        )
    profile = known.profiles.get(wanted)
    if profile is None:
        names = ", ".join(sorted(known.profiles)) or "none"
        raise ProfileError(f'There is no profile "{wanted}" in {environment.config}; it has: {names}.')
    return Profile(profile.name, profile.url.rstrip("/"), environment.key or profile.key)


def is_chosen(environment: Environment, profile: Profile) -> bool:
    """Whether a command that names no profile reaches this one's gateway."""
    try:
        return choose(environment, None).url == profile.url
    except ProfileError:
        return False


def write_private(path: Path, text: str) -> None:
    """Replace a file by one of mode 0600 in one step: a reader sees the old or the new, never a half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def _quoted(text: str) -> str:
    # A TOML basic string takes what JSON escapes, except that JSON leaves DEL bare.
    return json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")
