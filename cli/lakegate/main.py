"""`lakegate`: the table of contents of the command line."""

from __future__ import annotations

import typer

from lakegate.commands import catalog, cluster, demo, doctor, events, keys, loads, rollout, sql, streams, suite
from lakegate.commands import version as version_command

app = typer.Typer(
    name="lakegate",
    help="The front door of a lakehouse: push files, read tables, see where data came from.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals hold keys
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN, _LOAD, _READ, _MORE = "Run it here", "Load", "Find and read", "More"

app.command(rich_help_panel=_RUN)(demo.demo)
app.command(rich_help_panel=_RUN)(suite.up)
app.command(rich_help_panel=_RUN)(suite.down)
app.command(rich_help_panel=_RUN)(suite.status)
app.command(rich_help_panel=_LOAD)(loads.push)
app.command(rich_help_panel=_LOAD)(loads.loads)
app.command(rich_help_panel=_LOAD)(loads.cancel)
app.command(rich_help_panel=_LOAD)(loads.rejects)
app.command(rich_help_panel=_READ)(catalog.ls)
app.command(rich_help_panel=_READ)(catalog.show)
app.command(rich_help_panel=_READ)(catalog.search)
app.command(rich_help_panel=_READ)(catalog.lineage)
app.command(rich_help_panel=_READ)(sql.sql)
app.add_typer(streams.app, name="stream", rich_help_panel=_LOAD)
app.add_typer(keys.app, name="keys", rich_help_panel=_MORE)
app.add_typer(cluster.app, name="cluster", rich_help_panel=_MORE)
app.command(rich_help_panel=_MORE)(doctor.doctor)
app.add_typer(events.app, name="events", rich_help_panel=_MORE)
app.add_typer(rollout.app, name="rollout", rich_help_panel=_MORE)
app.command(rich_help_panel=_MORE)(version_command.version)
