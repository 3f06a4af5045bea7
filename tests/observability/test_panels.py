"""What an SRE sees: a real Prometheus scrapes a suite at work, takes up the rules, and each panel's query has data."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from servers.processes import ServerProcess
from suites import Suite, start_suite, until

from dashboards.all import ALL
from lakegate.embedded.ports import free_ports
from observability.known import CHART, RULES, tool

# What this suite can't have, and why; the names are checked in test_dashboards.py.
NOT_HERE = {"rollout": "its driver is a Job of a cluster"}
WITHOUT_DATA = dict.fromkeys(
    (
        "Streams: age of the oldest record without its table",
        "Streams: records behind",
        "Streams: rows",
        "Streams: commits",
        "Streams: from the broker to the table",
    ),
    "streams need Kafka",
)
ROUNDS = 8


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    tool("prometheus")  # without it there is no need to start anything
    started = start_suite(tmp_path_factory.mktemp("suite"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def prometheus(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Scrapes each service under its name as `job`, as the ServiceMonitors do, and evaluates the rules, only faster."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_ports(1)[0]
    for rules in RULES:
        faster = rules.read_text().replace("interval: 30s", "interval: 1s").replace("for: 3m", "for: 3s")
        (folder / rules.name).write_text(faster)
    services = {name: item for name, item in suite.state()["processes"].items() if item.get("management_port")}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [rules.name for rules in RULES],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{item['management_port']}"]}]}
            for name, item in services.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def is_ready() -> bool:
        try:
            return client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    process = ServerProcess(
        [
            tool("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        folder=folder,
        ready=is_ready,
    )
    process.start()
    yield client
    client.close()
    process.stop()


def value(prometheus: httpx.Client, expression: str) -> list[float]:
    """The numbers that an expression has now; NaN is none."""
    expression = expression.replace("$__rate_interval", "1m").replace("$namespace", ".*")
    answer = prometheus.post("/api/v1/query", data={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return [number for each in answer["data"]["result"] if not math.isnan(number := float(each["value"][1]))]


def work(lake: httpx.Client, table: str) -> None:
    """One round of what users do, good and bad."""
    body = b"id,name\n" + b"".join(b"%d,row\n" % number for number in range(500))
    loaded = lake.post(f"/v1/loads/panels/{table}", content=body, headers={"content-type": "text/csv"})
    assert loaded.status_code == 201, loaded.text
    assert lake.post(f"/v1/loads/panels/{table}", content=b"").status_code == 422
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2024-01-01T00:05:00Z",
        "run": {"runId": str(uuid4())},
        "job": {"namespace": "panels", "name": "nightly"},
        "inputs": [{"namespace": "lakegate://default", "name": f"panels.{table}"}],
        "outputs": [],
        "producer": "https://example.org/nightly",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    }
    assert lake.post("/api/v1/lineage", json=event).is_success
    report = {
        "report-type": "scan-report", "table-name": table, "snapshot-id": 1, "schema-id": 0,
        "projected-field-ids": [], "projected-field-names": [], "filter": True, "metrics": {},
    }  # fmt: skip
    path = f"/iceberg/v1/default/namespaces/panels/tables/{table}"
    assert lake.post(f"{path}/metrics", json=report).is_success
    for read in (
        path,
        "/v1/datasets",
        f"/v1/search?q={table}",
        f"/v1/tables/panels/{table}/rows",
        "/v1/loads",
        f"/v1/lineage/graph?namespace=lakegate://default&name=panels.{table}&direction=up&depth=3",
    ):
        assert lake.get(read).status_code in (200, 404), read


@pytest.fixture(scope="module")
def watched(suite: Suite, prometheus: httpx.Client) -> httpx.Client:
    """A Prometheus that has seen the suite before, during and after some work."""

    def scraped(expression: str) -> list[float]:
        return value(prometheus, expression)

    with suite.client() as lake:
        # Series that the first round begins are seen once before they grow.
        for number in range(ROUNDS):
            work(lake, "first" if number else "orders")
            done = number + 1
            until(lambda: scraped(f"sum(lakegate_ingest_loads_total{{outcome='completed'}}) >= {done}"))  # noqa: B023
        until(lambda: scraped("lakegate_events_handled_total"))
    until(lambda: len(scraped("lakegate:slo_errors:ratio_3d")) == 4)
    return prometheus


def test_prometheus_takes_up_every_rule_and_no_alert_fires_on_a_suite_that_is_well(watched: httpx.Client) -> None:
    groups = watched.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    expected = sum(len(group["rules"]) for path in RULES for group in yaml.safe_load(path.read_text())["groups"])
    assert len(rules) == expected
    assert [rule["name"] for rule in rules if rule.get("lastError")] == []
    # three seconds without an answer to a scrape say nothing on a busy machine; three minutes do
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing - {"LakegateServiceDown"} == set()
    targets = watched.get("/api/v1/targets").json()["data"]["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == dict.fromkeys(
        ("gateway", "catalog", "ingest", "lineage"), "up"
    )


@pytest.mark.parametrize("name", [board.name for board in ALL if board.name not in NOT_HERE])
def test_every_panel_has_data(watched: httpx.Client, name: str) -> None:
    document: dict[str, Any] = json.loads(Path(CHART / "dashboards" / f"{name}.json").read_text())
    targets = [(panel["title"], target["expr"]) for panel in document["panels"] for target in panel.get("targets", [])]
    empty = [target for target in targets if not value(watched, target[1])]
    assert [target for target in empty if target[0] not in WITHOUT_DATA] == []


def test_an_alert_fires_while_a_service_hangs_and_clears_when_it_goes_on(suite: Suite, watched: httpx.Client) -> None:
    firing = 'ALERTS{alertname="LakegateServiceDown", alertstate="firing", job="lineage"}'
    pid = suite.state()["processes"]["lineage"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: value(watched, firing))
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: not value(watched, firing))
