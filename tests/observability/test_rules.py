"""Alerts are about what exists, fire and clear, and whoever is called by one finds a page that helps."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.known import ROOT, RULES, RUNBOOKS, named, recorded, series, tool

UNIT_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
SOURCES = [path for folder in ("libs", "services", "cli") for path in (ROOT / folder).rglob("lakegate*/**/*.py")]


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_prometheus_accepts_the_rules() -> None:
    done = subprocess.run([tool("promtool"), "check", "rules", *RULES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_clear(path: Path) -> None:
    done = subprocess.run([tool("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_in_a_unit_test() -> None:
    text = "".join(path.read_text() for path in UNIT_TESTS)
    fired = set(re.findall(r'alertname="(\w+)", severity="(\w+)"', text))
    assert {(alert["alert"], alert["labels"]["severity"]) for alert in alerts()} == fired


def test_every_alert_says_what_is_wrong_and_has_a_runbook_and_every_runbook_an_alert() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket"), alert["alert"]
        assert {"summary", "description", "runbook_url"} <= set(alert["annotations"]), alert["alert"]
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert {alert["alert"] for alert in alerts()} == pages


@pytest.mark.parametrize("path", [*RULES, *UNIT_TESTS], ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_rules_name_metrics_that_exist(path: Path) -> None:
    assert named(path.read_text()) - series() - recorded() == set()


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("Lakegate*.md")), ids=lambda page: page.stem)
def test_a_runbook_tells_the_four_things_and_names_what_exists(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == ["First look", "Likely causes", "What to do"]
    histograms = {name.removesuffix("_bucket") for name in series() if name.endswith("_bucket")}
    assert named(text) - series() - histograms == set()
    settings = (ROOT / "docs" / "settings.md").read_text()
    variables = re.findall(r"\b(?:GATEWAY|CATALOG|INGEST|LINEAGE)_[A-Z_]+\b", text)
    assert [name for name in variables if f"`{name}`" not in settings] == []


def test_runbooks_look_for_log_lines_that_are_written() -> None:
    looked_for: set[str] = set()
    for page in RUNBOOKS.glob("*.md"):
        for events in re.findall(r"\"event\":\"(?:\\\()?([\w\\|]+?)(?:\\\))?\"", page.read_text()):
            looked_for |= set(events.split("\\|"))
    assert looked_for
    code = "".join(path.read_text() for path in SOURCES)
    assert {event for event in looked_for if f'"{event}"' not in code} == set()


# which pods run what of ingest beside its own
ELSEWHERE = {"lakegate_ingest/streams/": "stream-worker", "lakegate_ingest/loads/": "worker"}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("Lakegate*.md")), ids=lambda page: page.stem)
def test_runbooks_look_for_log_lines_in_all_pods_that_write_them(page: Path) -> None:
    lines = [line for line in page.read_text().splitlines() if line.startswith("kubectl") and '"event"' in line]
    for line in lines:
        pods = re.search(r"app\.kubernetes\.io/component(?:=| in \()([\w,-]+)", line)
        events = re.search(r"\"event\":\"(?:\\\()?([\w\\|]+?)(?:\\\))?\"", line)
        assert events, line
        components = pods[1].split(",") if pods else []
        for event in events[1].split("\\|"):
            written = [str(path) for path in SOURCES if f'"{event}"' in path.read_text()]
            by = {component for part, component in ELSEWHERE.items() for path in written if part in path}
            assert not pods or by <= set(components), event


def test_no_runbook_scales_both_colours_at_once() -> None:
    scaled = [line for page in RUNBOOKS.glob("*.md") for line in page.read_text().splitlines() if "kubectl" in line]
    scaled = [line for line in scaled if " scale " in line]
    assert scaled
    assert not any(" -l " in line or "--all" in line for line in scaled)
