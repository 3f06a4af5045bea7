"""`lakegate cluster secrets`: what it writes is what the charts name, and stays."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
POSTGRES = "postgresql://boss:p%2Fw@db:5432/postgres"


def written(folder: Path, postgres: str = POSTGRES) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lakegate", "cluster", "secrets", "--postgres", postgres, "--folder", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def secrets(folder: Path) -> dict[str, dict[str, str]]:
    done = written(folder)
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    return {
        item["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
        for item in items
    }


def named_by_charts() -> set[tuple[str, str]]:
    """Every (Secret, key) in the charts' own values."""

    def look(node: Any) -> set[tuple[str, str]]:
        if not isinstance(node, dict):
            return set()
        found = {(node["name"], node["key"])} if {"name", "key"} <= set(node) else set()
        return found.union(*map(look, node.values()))

    files = (ROOT / "charts").glob("*/values.yaml")
    return set().union(*(look(yaml.safe_load(file.read_text())) for file in files))


def test_the_charts_name_nothing_that_is_not_written(tmp_path: Path) -> None:
    made = secrets(tmp_path)
    assert named_by_charts() <= {(name, key) for name, data in made.items() for key in data}


def test_each_service_has_a_role_and_a_password_of_its_own_in_one_database(tmp_path: Path) -> None:
    made = secrets(tmp_path)
    urls = [made[f"lakegate-{service}-postgres"]["url"] for service in ("gateway", "catalog", "ingest", "lineage")]
    assert [url.split("://")[1].split(":")[0] for url in urls] == [
        "lakegate_gateway", "lakegate_catalog", "lakegate_ingest", "lakegate_lineage",
    ]  # fmt: skip
    assert {url.rpartition("@")[2] for url in urls} == {"db:5432/lakegate"}
    assert len(set(urls)) == 4
    assert made["lakegate-postgres-admin"]["admin-url"] == POSTGRES
    assert made["lakegate-postgres-admin"]["migrate-url"] == POSTGRES.removesuffix("postgres") + "lakegate"


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    assert secrets(tmp_path) == secrets(tmp_path)
    assert not any(path.stat().st_mode & 0o077 for path in tmp_path.rglob("*") if path.suffix == ".key")


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    done = written(tmp_path, "db:5432")
    assert done.returncode == 1
    assert "postgresql://user:password@host:5432/database" in done.stderr
    assert done.stdout == ""
