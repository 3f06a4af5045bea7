"""`lakegate events` against a real suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def loaded(answer: Run) -> Any:
    """The receipt of a load, which published events."""
    return answer("push", "-", "shop.told", "--name", "told.csv", stdin=b"id\n1\n2\n")


def test_groups_are_listed_with_their_lag(loaded: Any, answer: Run) -> None:
    groups = answer("events", "ls")
    assert groups["head"] > 0
    assert [group["topics"] for group in groups["items"] if group["group"] == "lineage"] == [["lakegate.lineage"]]


def test_tail_writes_an_event_a_line(loaded: Any, run: Run) -> None:
    done = run("events", "tail", "--after", "0", "-n", "500", "--topic", "lakegate.loads", "--json")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    receipts = [event["data"]["receipt"] for event in told if event["type"] == "load.completed.v1"]
    assert loaded["load_id"] in [receipt["load_id"] for receipt in receipts]
    assert [event["position"] for event in told] == sorted(event["position"] for event in told)


def test_a_group_is_replayed_from_a_position(loaded: Any, answer: Run, run: Run) -> None:
    assert answer("events", "replay", "lineage", "--position", "0") == {"group": "lineage", "position": 0}
    assert "goes on after" in run("events", "replay", "lineage", "--since", "2020-01-01").stdout
    unknown = run("events", "replay", "nobody", "--position", "0")
    assert unknown.returncode != 0
    assert "nobody" in unknown.stderr


def test_a_group_that_is_run_is_not_forgotten(loaded: Any, run: Run) -> None:
    refused = run("events", "forget", "lineage")
    assert refused.returncode != 0
    assert "has an active member" in " ".join(refused.stderr.split())


def test_dead_letters_are_listed_and_asked_for_again(loaded: Any, answer: Run) -> None:
    assert answer("events", "dlq")["items"] == []
    assert answer("events", "dlq", "lineage", "--replay") == {"requested": 0}
