"""demo: the whole idea in half a minute."""

from __future__ import annotations

from typing import Annotated

import typer

from lakegate.commands.suite import HomeOption
from lakegate.failures import CommandFailed, explained
from lakegate.options import AsJson
from lakegate.output import Output
from lakegate.profiles import LOCAL, Profile, is_chosen
from lakegate.settings import read_environment


@explained
def demo(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=64_500, help="The gateway's, if one has to be started: 8080. 0: a free one."),
    ] = None,
    home: HomeOption = None,
    as_json: AsJson = False,
) -> None:
    """The whole idea in half a minute: a suite, real flights, a dirty file, and what became of them.

    Uses the suite that runs on the data folder, or starts one, which stays up: `lakegate down` stops it.
    """
    from lakegate.demo.story import Story
    from lakegate.embedded import suite
    from lakegate.embedded.ports import DEFAULT_BASE, HOST
    from lakegate.embedded.secret_files import secret
    from lakegate.embedded.state import running

    environment = read_environment()
    folder = suite.Home.at(home or environment.home)
    output = Output(as_json=as_json)
    state = running(folder)
    started = None
    if state is None:
        output.heading("0  Start PostgreSQL and four services behind one gateway")
        options = suite.Options(
            folder, DEFAULT_BASE if port is None else port, LOCAL, environment.config, environment.postgres_url
        )
        suite.check(options, output)
        state = suite.start_detached(options)
        started = state.ready_seconds
        output.note(f"Ready after {state.ready_seconds} s at {state.url}; logs are in {folder.logs}.")
    else:
        if port and state.url != f"http://{HOST}:{port}":
            raise CommandFailed(
                f"A suite already runs on {folder.path}, at {state.url}: it can't be shown on port {port}.",
                hint="Leave the port out to use it, stop it with `lakegate down`, or take another folder with --home.",
            )
        output.note(f"The suite already runs at {state.url}.")
    profile = Profile(state.profile, state.url, secret(folder.secrets / "admin.key"))
    seen = Story(profile, output, started, needs_profile=not is_chosen(environment, profile)).tell()
    if started is not None:
        output.note(f'Address and key were written to the profile "{LOCAL}" in {environment.config}.')
    output.note(f"The key, for curl and others: export KEY=$(cat {folder.secrets / 'admin.key'})")
    if as_json:
        output.result(seen)
