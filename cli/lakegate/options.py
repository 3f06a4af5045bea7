"""The options that every command has, and how a command gets its client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lakegate.profiles import Profile, choose
from lakegate.settings import read_environment

if TYPE_CHECKING:
    from lakegate.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="A profile of the config file; else LAKEGATE_URL, else its default."),
]


def connect(profile: str | None) -> Client:
    """A client for the chosen profile. Raises ProfileError."""
    from lakegate.client import Client

    environment = read_environment()
    chosen = choose(environment, profile)
    return Client(chosen.url, chosen.key, record_traces=environment.record_traces)


def chosen_profile(profile: str | None) -> Profile:
    return choose(read_environment(), profile)
