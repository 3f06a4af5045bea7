"""Dashboards are what the Python says, and fit to be read: by an SRE, and by any Grafana's data source."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dashboards.all import ALL, rendered
from dashboards.panels import Dashboard
from observability.known import CHART, named, recorded, series

# The Python client's own, and what Prometheus itself makes.
FOREIGN = {"process_resident_memory_bytes", "process_cpu_seconds_total", "ALERTS"}
UNITS = {"reqps", "s", "bytes", "percentunit", "short", "cps", "Bps", "bool_yes_no"}

each_dashboard = pytest.mark.parametrize("board", ALL, ids=lambda board: board.name)


def panels(board: Dashboard) -> list[dict[str, Any]]:
    document = json.loads(rendered(board))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


@each_dashboard
def test_the_chart_has_what_the_python_says(board: Dashboard) -> None:
    assert (CHART / "dashboards" / f"{board.name}.json").read_text() == rendered(board), "run: make dashboards"


def test_the_chart_has_no_other_dashboards_and_none_is_there_twice() -> None:
    assert {path.stem for path in (CHART / "dashboards").glob("*")} == {board.name for board in ALL}
    assert len({board.title for board in ALL}) == len(ALL)


@each_dashboard
def test_every_panel_has_a_title_of_its_own_a_unit_and_says_what_to_see(board: Dashboard) -> None:
    found = panels(board)
    titles = [panel["title"] for panel in found]
    assert len(set(titles)) == len(titles)
    for panel in found:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


@each_dashboard
def test_data_source_and_installation_are_variables(board: Dashboard) -> None:
    document = json.loads(rendered(board))
    assert [variable["name"] for variable in document["templating"]["list"]] == ["datasource", "namespace"]
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        for target in panel["targets"]:
            assert 'namespace=~"$namespace"' in target["expr"], panel["title"]


@each_dashboard
def test_panels_ask_for_metrics_that_exist(board: Dashboard) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            asked = named(target["expr"]) | (FOREIGN & set(re.findall(r"\w+", target["expr"])))
            assert asked, panel["title"]
            assert asked - series() - recorded() - FOREIGN == set(), panel["title"]
