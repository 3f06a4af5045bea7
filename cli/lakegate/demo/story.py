"""The demo as a story in five steps, each printed with how long it really took."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lakegate.client import Client, Dataset, LineageGraph, NotFound
from lakegate.commands.catalog import find_table, lineage_of
from lakegate.demo.flights import NULL, TABLE, dirty_file, open_flights
from lakegate.lakehouse import Lakehouse
from lakegate.output import Output
from lakegate.profiles import Profile
from lakegate.progress import follow
from lakegate.render import catalog, lineage, loads, rows, words
from lakegate_contracts.receipts import Receipt

T = TypeVar("T")
_LINEAGE_SECONDS = 10.0

QUERY = """SELECT carrier, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay_min,
       round(100.0 * count(*) FILTER (dep_delay > 60) / count(*), 1) AS over_an_hour_pct
FROM travel.flights
GROUP BY carrier ORDER BY flights DESC LIMIT 8"""

# Arguments of `lakegate` that ask the gateway, and what they show.
NEXT = (
    ("ls", "what the catalog holds"),
    (f'sql "SELECT dest, count(*) AS n FROM {TABLE} GROUP BY ALL ORDER BY n DESC LIMIT 5"', "ask something else"),
    ("search flihgts", "search forgives"),
    (f"lineage {TABLE} --json", "the graph itself"),
)


class Story:
    """One run of the demo against a running suite.

    `needs_profile`: commands without --profile would ask another gateway.
    """

    def __init__(self, profile: Profile, output: Output, started_seconds: float | None, *, needs_profile: bool) -> None:
        self._profile = profile
        self._output = output
        self._needs_profile = needs_profile
        self._timings = [] if started_seconds is None else [("start of the suite", started_seconds)]

    def tell(self) -> dict[str, Any]:
        """All steps; returns what was seen, for --json."""
        output = self._output
        with Client(self._profile.url, self._profile.key) as lake:
            self._say_what_is_there(lake)
            output.heading(f"1  Push 336,776 real flights to {TABLE}")
            clean = self._timed("push of the flights", lambda: self._push_flights(lake))
            output.show(loads.receipt(output, clean))

            output.heading(
                "2  Push a dirty file to the same table: good rows go in, bad ones are kept with their reason"
            )
            dirty = self._timed("push of the dirty file", lambda: self._push(lake, "dirty.csv", dirty_file(), None))
            output.show(loads.receipt(output, dirty))
            rejected = list(lake.all_rejects(dirty.load_id))
            # a row with two bad values is set aside once, and listed twice
            output.show(
                Text(f"{len(rejected)} errors in {dirty.quarantine.rows} rows:"), loads.rejects(output, rejected)
            )

            output.heading("3  What the catalog knows")
            item = self._timed("catalog entry", lambda: find_table(lake, TABLE))
            history = lake.dataset_versions(item.id, limit=5).items
            output.show(catalog.page(output, item, history))

            output.heading("4  Where it came from")
            graph = self._timed("lineage", lambda: self._lineage(lake, item, {"flights.csv", "dirty.csv"}))
            output.show(lineage.tree(output, graph, item.namespace, item.name))

        output.heading("5  Read it back: PyIceberg through the gateway with the same key, DuckDB on top")
        output.show(Text(QUERY, style="cyan"))
        answer = self._timed("query", self._ask)
        output.show(rows.answer(output, answer))
        self._close()
        return {
            "receipts": [clean, dirty],
            "rejects": rejected,
            "dataset": item,
            "versions": history,
            "lineage": graph,
            "query": {"sql": QUERY, **answer.document()},
            "seconds": dict(self._timings),
        }

    def _say_what_is_there(self, lake: Client) -> None:
        try:
            known = lake.overview(TABLE).dataset
        except NotFound:
            return
        if known is not None and known.rows:
            self._output.note(
                f"{TABLE} has {words.count(known.rows)} rows from before: what is pushed now comes on top, and numbers "
                "below count every flight as often as it was loaded. For an empty table: lakegate down, lakegate up "
                "--fresh.",
                "yellow",
            )

    def _push_flights(self, lake: Client) -> Receipt:
        with open_flights() as flights:
            return self._push(lake, flights.name, flights.stream, flights.size_bytes, null=[NULL])

    def _push(
        self, lake: Client, name: str, source: bytes | IO[bytes], size_bytes: int | None, **options: Any
    ) -> Receipt:
        with follow(self._output, name) as follower:

            def on_upload(sent: int, total: int | None) -> None:
                follower.on_upload(sent, total or size_bytes)

            return lake.push(source, TABLE, name=name, on_upload=on_upload, on_event=follower.on_event, **options)

    def _lineage(self, lake: Client, item: Dataset, files: set[str]) -> LineageGraph:
        """The graph once both loads are in it: they come by the event log, a moment after the receipt."""
        deadline = time.monotonic() + _LINEAGE_SECONDS
        while True:
            graph = lineage_of(lake, item, direction="both", depth=3, limit=50)
            if files <= {node.name for node in graph.nodes} or time.monotonic() > deadline:
                return graph
            time.sleep(0.05)

    def _ask(self) -> Any:
        with Lakehouse(self._profile) as lakehouse:
            return lakehouse.ask(QUERY, limit=20)

    def _timed(self, name: str, step: Callable[[], T]) -> T:
        begun = time.monotonic()
        result = step()
        self._timings.append((name, round(time.monotonic() - begun, 3)))
        return result

    def _close(self) -> None:
        output = self._output
        took = [(name, words.seconds(passed)) for name, passed in self._timings]
        took.append(("together", words.seconds(sum(passed for _, passed in self._timings))))
        ours = called_as()
        option = f" --profile {shlex.quote(self._profile.name)}" if self._needs_profile else ""
        commands = [(f"{ours} {command}{option}", Text(what, style="dim")) for command, what in NEXT]
        commands.append((f"{ours} down", Text("stop the suite; the data stays", style="dim")))
        output.show(output.panel("It took", output.pairs(took), style="bright_black"))
        output.heading("Try next")
        output.show(output.panel(f"The suite keeps running at {self._profile.url}", _commands(commands), style="green"))


def called_as() -> str:
    """How the commands to try are typed here: `lakegate`, or with its folder when that isn't on the PATH."""
    this = Path(sys.argv[0])
    found = shutil.which("lakegate")
    if this.name != "lakegate" or (found is not None and Path(found).samefile(this)):
        return "lakegate"
    here = Path.cwd()
    return str(this.relative_to(here) if this.is_relative_to(here) else this)


def _commands(commands: list[tuple[str, Text]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", overflow="fold")
    table.add_column(no_wrap=True)
    for command, what in commands:
        table.add_row(Text(command), what)
    return table
