"""`lakegate cluster secrets`: what it writes is what the charts name, and stays."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
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


def keys(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lakegate", "cluster", "keys", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def signing_keys(folder: Path, *options: str) -> tuple[list[str], set[str]]:
    """The names of the private keys in the Secret, and the ids of the public ones."""
    done = keys(folder, *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["metadata"]["name"] == "lakegate-signing-keys"
    data = {name: base64.b64decode(value).decode() for name, value in document["data"].items()}
    public = json.loads(data.pop("internal.jwks.json"))
    return sorted(data, key=lambda name: Path(name).stem), {key["kid"] for key in public["keys"]}


def grow_old(folder: Path, hours: float) -> None:
    for file in (folder / "keys").glob("*.pem"):
        then = time.time() - hours * 3600
        os.utime(file, (then, then))


def test_a_rotated_key_is_known_to_all_before_it_signs_and_the_old_one_goes_a_day_later(tmp_path: Path) -> None:
    secrets(tmp_path)
    before = signing_keys(tmp_path)
    assert before[0] == ["internal.pem"]
    grow_old(tmp_path, 1)

    private, public = signing_keys(tmp_path, "--rotate")
    assert private == ["internal.pem"]
    assert len(public) == 2
    assert before[1] < public

    private, again = signing_keys(tmp_path)
    assert private[0] == "internal.pem"
    assert len(private) == 2
    assert again == public

    assert signing_keys(tmp_path, "--retire") == (private, public)
    grow_old(tmp_path, 26)
    assert signing_keys(tmp_path, "--retire") == (private[1:], public - before[1])


def test_a_second_rotation_waits_for_the_first(tmp_path: Path) -> None:
    secrets(tmp_path)
    grow_old(tmp_path, 1)
    signing_keys(tmp_path, "--rotate")
    done = keys(tmp_path, "--rotate")
    assert done.returncode == 1
    assert "in use before there is another" in done.stderr
    assert len(signing_keys(tmp_path)[0]) == 2


def test_keys_that_were_never_made_are_not_rotated(tmp_path: Path) -> None:
    done = keys(tmp_path, "--rotate")
    assert done.returncode == 1
    assert "There are no signing keys" in done.stderr
    assert done.stdout == ""
