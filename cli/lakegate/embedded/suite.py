"""A suite from the outside: run it here, start it in the background, stop it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from lakegate.embedded import lock
from lakegate.embedded.database import DatabaseFailed, is_postgres_url
from lakegate.embedded.errors import EmbeddedPostgresError
from lakegate.embedded.layout import ForeignFolder, last_lines
from lakegate.embedded.layout import Home as Home
from lakegate.embedded.leftovers import end_leftovers
from lakegate.embedded.lock import SuiteLock, SuiteRunning
from lakegate.embedded.ports import HOST, Ports, PortTaken, is_somebodys
from lakegate.embedded.secret_files import secret
from lakegate.embedded.state import Phase, SuiteState, read_state, running
from lakegate.embedded.supervisor import START_SECONDS, SuiteFailed, Supervisor
from lakegate.failures import CommandFailed
from lakegate.output import Output
from lakegate.profiles import Profile, is_chosen, read_profiles, save_profile
from lakegate.settings import read_environment
from lakegate.text import styled

_POLL_SECONDS = 0.05
# The gateway may finish a request of 35 s, the others take 15 s behind it.
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """How a suite is started."""

    home: Home
    port: int
    profile: str
    config: Path
    postgres_url: str | None
    fresh: bool = False
    quiet: bool = False


def check(options: Options, output: Output) -> None:
    """What can be said before anything is started or removed; what a killed suite left on the folder is ended.

    Raises CommandFailed and ProfileError.
    """
    if options.postgres_url is not None and not is_postgres_url(options.postgres_url):
        raise CommandFailed(
            "LAKEGATE_POSTGRES_URL is no PostgreSQL URL.",
            hint="It looks like postgresql://user:password@host:5432/postgres",
        )
    try:
        options.home.check_ours()
    except ForeignFolder as error:
        raise CommandFailed(str(error)) from error
    if (pid := lock.holder(options.home.lock)) is not None:
        raise _already_runs(options.home, SuiteRunning(pid, options.home.path))
    known = read_profiles(options.config).profiles.get(options.profile)
    _end_leftovers(options.home, output)
    if known is not None and known.url != f"http://{HOST}:{options.port}" and is_somebodys(known.url):
        output.note(
            styled(
                (f'The profile "{options.profile}" names the gateway at {known.url} until now', "yellow"),
                "; it will name this suite's. Keep both with --profile NAME.",
            )
        )
    try:
        Ports.from_base(options.port).check()
    except PortTaken as error:
        raise CommandFailed(str(error)) from error


def run(options: Options, output: Output) -> None:
    """Run a suite in this process until Ctrl-C or SIGTERM. Raises CommandFailed when it can't start."""

    def say(text: str | Text) -> None:
        output.note(styled((time.strftime("%H:%M:%S"), "dim"), " ", text))

    def ready(state: SuiteState, key: str) -> None:
        save_profile(options.config, Profile(options.profile, state.url, key))
        if options.quiet:
            say(f"ready at {state.url} after {state.ready_seconds} s")
        else:
            output.result(*welcome(output, options, state))

    try:
        options.home.check_ours()
        with SuiteLock(options.home.lock):
            ports = Ports.from_base(options.port)
            supervisor = Supervisor(options.home, ports, options.postgres_url, options.profile, say)
            asyncio.run(supervisor.run(ready, fresh=options.fresh))
    except SuiteRunning as error:
        raise _already_runs(options.home, error) from error
    except (ForeignFolder, PortTaken, SuiteFailed, DatabaseFailed, EmbeddedPostgresError) as error:
        raise CommandFailed(str(error)) from error


def _end_leftovers(home: Home, output: Output) -> None:
    """They may hold the very ports that are asked for."""
    if not home.state.exists():
        return
    try:
        with SuiteLock(home.lock):
            end_leftovers(home, lambda text: output.note(text, "dim"))
    except SuiteRunning as error:
        raise _already_runs(home, error) from error


def _already_runs(home: Home, error: SuiteRunning) -> CommandFailed:
    state = running(home)
    where = f" It answers at {state.url}." if state else ""
    return CommandFailed(f"{error}{where}", hint="`lakegate status` shows it, `lakegate down` stops it.")


def start_detached(options: Options) -> SuiteState:
    """Start a suite that outlives us, and wait until it is ready. Call `check` before.

    Raises CommandFailed with the end of its log.
    """
    options.home.make()
    log = options.home.log("suite")
    begins = log.stat().st_size if log.exists() else 0
    arguments = ["--home", str(options.home.path), "--port", str(options.port), "--profile", options.profile]
    # Its output is a file, in which the key has no business.
    arguments.append("--quiet")
    if options.fresh:
        arguments += ["--fresh", "--yes"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakegate", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS + 10
    while process.poll() is None and time.monotonic() < deadline:
        state = read_state(options.home)
        if state is not None and state.pid == process.pid and state.phase is Phase.READY:
            return state
        time.sleep(_POLL_SECONDS)
    if process.poll() is None:
        process.terminate()
        raise CommandFailed(f"Not ready after {START_SECONDS:.0f} s; see {log}.")
    reason = re.sub(r"^error: ", "", last_lines(log, after=begins).strip(), flags=re.MULTILINE)  # we say so, too
    raise CommandFailed(f"The suite did not start. {log} ends:\n{reason}")


def stop(home: Home) -> int | None:
    """SIGTERM to the suite and wait for its end; its pid, None when nothing runs. Raises CommandFailed."""
    pid = lock.holder(home.lock)
    if pid is None:
        return None
    _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while lock.holder(home.lock) == pid:
        if time.monotonic() > deadline:
            raise CommandFailed(f"Process {pid} still drains after {STOP_SECONDS:.0f} s; end it: kill -9 {pid}")
        time.sleep(_POLL_SECONDS)
    return pid


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise CommandFailed(f"Process {pid} belongs to another user; stop it as that user.") from error


def _profile_words(options: Options, state: SuiteState) -> Text:
    words = Text(f"{options.profile} in {options.config}")
    if not is_chosen(read_environment(), Profile(options.profile, state.url, None)):
        words.append(f" (other commands take another one, unless they have --profile {options.profile})", "yellow")
    return words


def welcome(
    output: Output, options: Options, state: SuiteState, *, detached: bool = False
) -> tuple[dict[str, Any], RenderableType]:
    """What a suite that is ready says: for --json, and for people."""
    key = secret(options.home.secrets / "admin.key")
    document = {
        "url": state.url,
        "key": key,
        "logs": str(options.home.logs),
        "data": str(options.home.path),
        "profile": options.profile,
        "pid": state.pid,
        "ready_seconds": state.ready_seconds,
    }
    rows = [
        ("url", Text(state.url, style="bold")),
        ("key", Text(key, style="bold")),
        ("docs", Text(f"{state.url}/docs")),
        ("logs", Text(str(options.home.logs))),
        ("data", Text(str(options.home.path))),
        ("profile", _profile_words(options, state)),
        ("stop", Text("lakegate down" if detached else "Ctrl-C (drains; the data stays)")),
    ]
    title = f"Lakegate is ready after {state.ready_seconds} s"
    return document, output.panel(title, output.pairs(rows), style="green")
