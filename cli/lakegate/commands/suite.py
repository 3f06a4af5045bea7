"""up, down, status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakegate.failures import FAILED, CommandFailed, explained
from lakegate.options import AsJson
from lakegate.output import Output
from lakegate.profiles import LOCAL
from lakegate.settings import read_environment

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The data folder; else LAKEGATE_HOME, else .lakegate here.")
]


@explained
def up(
    port: Annotated[
        int, typer.Option(min=0, max=64_500, help="The gateway's; the rest follow. 0: any free ones.")
    ] = 8080,
    home: HomeOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready and leave it running.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove all tables, loads and keys first; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before removing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Don't show the key when it is ready.")] = False,
    name: Annotated[str, typer.Option("--profile", "-p", help="The profile that is written.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Start the suite: PostgreSQL and four services behind one gateway.

    Ctrl-C finishes what is under way and stops it; the data stays. Address and key go into a profile, which every
    other command uses.
    """
    from lakegate.embedded import suite

    environment = read_environment()
    chosen = suite.Options(
        home=suite.Home.at(home or environment.home),
        port=port,
        profile=name,
        config=environment.config,
        postgres_url=environment.postgres_url,
        fresh=fresh,
        quiet=quiet,
    )
    output = Output(as_json=as_json)
    suite.check(chosen, output)
    if fresh and not yes and (doomed := chosen.home.doomed()):
        names = ", ".join(entry.name for entry in doomed)
        typer.confirm(f"Remove all tables, loads and keys in {chosen.home.path} ({names})?", abort=True, err=as_json)
    if detach:
        state = suite.start_detached(chosen)
        if quiet:
            output.note(f"Ready at {state.url} after {state.ready_seconds} s.")
        else:
            output.result(*suite.welcome(output, chosen, state, detached=True))
    else:
        suite.run(chosen, output)


@explained
def down(home: HomeOption = None, as_json: AsJson = False) -> None:
    """Stop the suite that runs on the data folder, after what is under way."""
    from lakegate.embedded import suite

    output = Output(as_json=as_json)
    folder = suite.Home.at(home or read_environment().home)
    pid = suite.stop(folder)
    if pid is None:
        output.result({"stopped": False}, f"Nothing runs on {folder.path}.")
    else:
        output.result({"stopped": True, "pid": pid}, f"Stopped. The data stays in {folder.path}.")


@explained
def status(home: HomeOption = None, as_json: AsJson = False) -> None:
    """Show the suite's processes: state, ports, memory, restarts."""
    from lakegate.embedded import suite
    from lakegate.embedded.state import running
    from lakegate.render import suite as render

    output = Output(as_json=as_json)
    folder = suite.Home.at(home or read_environment().home)
    state = running(folder)
    if state is None:
        raise CommandFailed(f"Nothing runs on {folder.path}.", hint="`lakegate up` starts a suite.", code=FAILED)
    output.result(state, render.status(output, state, folder))
