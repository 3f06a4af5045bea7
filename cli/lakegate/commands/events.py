"""events ls, tail, replay, forget, dlq."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakegate.failures import explained
from lakegate.options import AsJson, ProfileName, connect
from lakegate.output import Column, Output
from lakegate.text import styled

if TYPE_CHECKING:
    from rich.text import Text

    from lakegate.client.models import LoggedEvent

app = typer.Typer(help="The event log: groups, events, dead letters, replay. For admins.", no_args_is_help=True)

_FOLLOW_SECONDS = 1.0
_TIMES = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]


@app.command("ls")
@explained
def list_groups(as_json: AsJson = False, profile: ProfileName = None) -> None:
    """The consumer groups: how far they are, how far behind, what they gave up on."""
    from lakegate.render import words

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        groups = lake.event_groups()
    columns = [
        Column("group", style="bold"),
        Column("topics", wrap=True),
        Column("position"),
        Column("lag"),
        Column("dead letters"),
        Column("updated"),
    ]
    rows = [
        (
            words.value(item.group),
            " ".join(item.topics),
            words.count(item.position),
            words.count(item.lag),
            words.count(item.dead_letters),
            words.moment(item.updated_at),
        )
        for item in groups.items
    ]
    output.result(groups, output.table(columns, rows))


@app.command()
@explained
def tail(
    topic: Annotated[list[str] | None, typer.Option("--topic", "-t", help="Repeatable; else every topic.")] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="A position; else what comes from now on, which needs --follow.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Events at once.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Events, oldest first, a line each."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        position = lake.logged_events(limit=1).after if after is None else after
        while True:
            page = lake.logged_events(after=position, topics=topic or (), limit=limit)
            for event in page.items:
                output.result(event, _line(event))
            position = page.after
            if not follow:
                return
            if not page.items:
                time.sleep(_FOLLOW_SECONDS)


@app.command()
@explained
def replay(
    group: Annotated[str, typer.Argument(help="As `lakegate events ls` shows it.")],
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, help="What happened at this time or later.")] = None,
    position: Annotated[int | None, typer.Option(min=0, help="What comes after this position.")] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Have a group handle events again; effects that it has had already are not repeated."""
    if (since is None) == (position is None):
        raise typer.BadParameter("give --since or --position")
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        replayed = lake.replay_events(group, position=position, since=since)
    output.result(replayed, f"{replayed.group} goes on after position {replayed.position:,}.")


@app.command()
@explained
def forget(
    group: Annotated[str, typer.Argument(help="As `lakegate events ls` shows it.")],
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Drop a group that nothing runs any more: the log keeps events until every group has passed them."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        lake.forget_event_group(group)
    output.result({"forgotten": group}, f"{group} is dropped.")


@app.command()
@explained
def dlq(
    group: Annotated[str | None, typer.Argument(help="Of this group alone.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Hand them to the group again.")] = False,
    letter: Annotated[list[int] | None, typer.Option("--id", help="With --replay: these; repeatable.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500)] = 50,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Dead letters: events that a group gave up on, newest first."""
    from lakegate.render import words

    output = Output(as_json=as_json)
    if replay:
        if group is None:
            raise typer.BadParameter("--replay needs the group")
        with connect(profile) as lake:
            answer = lake.replay_dead_letters(group, letter)
        output.result(answer, f"{answer.requested:,} will be handed to {group} again.")
        return
    with connect(profile) as lake:
        letters = lake.dead_letters(group=group, limit=limit)
    columns = [
        Column("id"),
        Column("group", style="bold"),
        Column("type"),
        Column("key"),
        Column("attempts"),
        Column("failed"),
        Column("reason", wrap=True),
    ]
    rows = [
        (
            str(item.id),
            words.value(item.group),
            words.value(item.event.type),
            words.value(item.event.key),
            words.count(item.attempts),
            words.moment(item.failed_at),
            words.value(item.reason, 200),
        )
        for item in letters.items
    ]
    output.result(letters, output.table(columns, rows))


def _line(event: LoggedEvent) -> Text:
    from lakegate.render import words

    at = (str(event.position), "dim")
    return styled(at, f" {words.moment(event.time)} ", (event.type, "bold"), f" {event.key} ", (str(event.id), "dim"))
