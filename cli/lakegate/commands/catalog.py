"""ls, show, search, lineage."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lakegate.failures import REFUSED, SERVICE_FAILED, USAGE, CommandFailed, explained
from lakegate.options import AsJson, ProfileName, connect
from lakegate.output import Output

if TYPE_CHECKING:
    from lakegate.client import Client, Dataset, LineageGraph, Overview
    from lakegate.client.operations import Direction

TableArgument = Annotated[str, typer.Argument(help="namespace.table, as in travel.flights", metavar="TABLE")]


@explained
def ls(
    namespace: Annotated[str | None, typer.Argument(help="Only tables of this namespace, as in travel.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """List the datasets of the catalog."""
    from lakegate.render import catalog as render
    from lakegate_contracts.names import check_levels

    if namespace is not None:
        check_levels(namespace.split("."))
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        every = lake.all_datasets(page_size=200)
        wanted = (item for item in every if namespace is None or item.name.startswith(f"{namespace}."))
        items = list(islice(wanted, limit))
    empty = "Nothing yet. Load something: lakegate push FILE namespace.table"
    if namespace is not None:
        empty = f"Nothing in the namespace {namespace}. `lakegate ls` lists all."
    output.result(items, render.datasets(output, items) if items else empty)


@explained
def show(table: TableArgument, as_json: AsJson = False, profile: ProfileName = None) -> None:
    """Show a table: its catalog entry, schema and versions."""
    from lakegate.render import catalog as render

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        overview, item = overview_of(lake, table)
        history = lake.dataset_versions(item.id, limit=10).items
    output.result({"dataset": item, "versions": history}, render.page(output, item, history))
    for missing in overview.errors:
        output.note(f"without {missing.part}: {missing.detail}", "dim")


@explained
def search(
    query: Annotated[str, typer.Argument(help="Words; typing errors are forgiven.")],
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    token: Annotated[str | None, typer.Option(help="The consistency token of a receipt: see that write.")] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Search the catalog."""
    from lakegate.render import catalog as render

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        found = lake.search(query, limit=limit, consistency_token=token)
    output.result(found, render.datasets(output, found.items) if found.items else "Nothing matches.")


@explained
def lineage(
    table: TableArgument,
    direction: Annotated[str, typer.Option(help="up (what it is made from), down (what uses it) or both.")] = "both",
    depth: Annotated[int, typer.Option(min=1, max=20)] = 5,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="Nodes at most.")] = 200,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Draw what a table is made from and what is made from it."""
    from lakegate.render import lineage as render

    if direction not in ("up", "down", "both"):
        raise CommandFailed("--direction is up, down or both.", code=USAGE)
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        item = find_table(lake, table)
        graph = lineage_of(lake, item, direction=cast("Direction", direction), depth=depth, limit=limit)
    output.result(graph, render.tree(output, graph, item.namespace, item.name))


def lineage_of(lake: Client, item: Dataset, *, direction: Direction, depth: int, limit: int) -> LineageGraph:
    """The graph around a dataset; an empty one when no event has named it yet, as right after its creation."""
    from lakegate.client import LineageGraph, NotFound

    try:
        return lake.lineage(item.namespace, item.name, direction=direction, depth=depth, limit=limit)
    except NotFound:
        return LineageGraph()


def find_table(lake: Client, table: str) -> Dataset:
    """The dataset of one of our tables, by its dotted name. Raises CommandFailed."""
    return overview_of(lake, table)[1]


def overview_of(lake: Client, table: str) -> tuple[Overview, Dataset]:
    """What can be had of one of our tables, of which its dataset is the least. Raises CommandFailed."""
    from lakegate_contracts.names import TableName

    name = str(TableName.parse(table))
    # The overview needs no knowledge of the tenant, which stands in the dataset's namespace.
    overview = lake.overview(name)
    if overview.dataset is not None:
        return overview, overview.dataset
    reason = next((error for error in overview.errors if error.part == "dataset"), None)
    if reason is not None:
        raise CommandFailed(reason.detail, code=SERVICE_FAILED if reason.status >= 500 else REFUSED)
    raise CommandFailed(f"The catalog has no table '{name}'.", hint="`lakegate ls` lists what is there.", code=REFUSED)
