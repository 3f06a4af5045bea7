"""What happens when processes die: they come back, nothing is lost, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from suites import Suite, start_suite, until


def rows(lake: httpx.Client, table: str) -> int:
    namespace, _, name = table.rpartition(".")
    answer = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "ndjson"})
    return len(answer.text.splitlines()) if answer.status_code == 200 else -1


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie is dead; only its parent has not looked yet.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def pids(suite: Suite) -> dict[str, int]:
    return {name: item["pid"] for name, item in suite.state()["processes"].items()}


@pytest.fixture(scope="module")
def shared_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that survives what the tests here do to it, so one is enough for several."""
    if os.environ.get("E2E_URL"):
        pytest.skip("hurts processes: only on a suite of its own")
    started = start_suite(tmp_path_factory.mktemp("shared"))
    yield started
    said = started.stop()
    assert "was killed" not in said, said
    for service in KILLED:
        assert f"{service} died (SIGKILL)" in said.replace("postgresql", "postgres")


KILLED = ("gateway", "catalog", "ingest", "lineage", "postgres")


@pytest.mark.parametrize("service", KILLED)
def test_a_killed_process_is_started_again_and_reported(shared_suite: Suite, service: str) -> None:
    with shared_suite.client() as lake:
        assert lake.post("/v1/loads/shop/orders", content=b"a\n1\n").status_code == 201
        killed = pids(shared_suite)[service]

        os.kill(killed, signal.SIGKILL)

        def back() -> dict[str, Any] | None:
            item: dict[str, Any] = shared_suite.state()["processes"][service]
            return item if item["phase"] == "ready" and item["pid"] != killed else None

        again = until(back)
        assert again["restarts"] == 1
        assert again["last_exit"] == "SIGKILL"
        until(lambda: _loads(lake) == 201)
        assert rows(lake, "shop.orders") >= 2


def _loads(lake: httpx.Client) -> int:
    try:
        return lake.post("/v1/loads/shop/orders", content=b"a\n2\n").status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("service", ["ingest", "catalog", "postgres"])
def test_a_load_that_was_under_way_is_complete_once_or_reported_failed(shared_suite: Suite, service: str) -> None:
    """Killed -9 in the middle of a load: never a half of it, never twice, never without a word."""
    table = f"shop.interrupted-{service}"
    body = b"a,b\n" + b"".join(b"%d,some words to make it longer\n" % number for number in range(400_000))
    with shared_suite.client() as lake:
        begun = lake.post(
            f"/v1/loads/shop/interrupted-{service}",
            content=body,
            headers={"Prefer": "wait=0", "Content-Type": "text/csv"},
        )
        assert begun.status_code == 202, begun.text

        os.kill(pids(shared_suite)[service], signal.SIGKILL)

        def settled() -> dict[str, Any] | None:
            try:
                answer = lake.get(begun.headers["Location"])
            except httpx.TransportError:
                return None
            load: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
            return load if load.get("state") in ("completed", "failed") else None

        load = until(settled, within_seconds=120)
        if load["state"] == "completed":
            assert load["receipt"]["rows_written"] == 400_000
            until(lambda: rows(lake, table) == 400_000)
        else:
            assert load["problem"]["detail"]
            assert rows(lake, table) in (-1, 0)
            again = until(lambda: (answer := _post(lake, table, body)) and answer.status_code == 201 and answer)
            assert again.json()["rows_written"] == 400_000
            until(lambda: rows(lake, table) == 400_000)


def _post(lake: httpx.Client, table: str, body: bytes) -> httpx.Response | None:
    namespace, _, name = table.rpartition(".")
    try:
        return lake.post(f"/v1/loads/{namespace}/{name}", content=body, headers={"Content-Type": "text/csv"})
    except httpx.TransportError:
        return None


def test_data_outlives_the_suite(tmp_path: Path) -> None:
    first = start_suite(tmp_path)
    with first.client() as lake:
        assert lake.post("/v1/loads/shop/orders", content=b"a\n1\n").status_code == 201
    first.stop()

    second = start_suite(tmp_path)
    try:
        assert second.key == first.key
        with second.client() as lake:
            assert rows(lake, "shop.orders") == 1
            found = lake.get("/v1/search", params={"q": "orders"}).json()
            assert [item["name"] for item in found["items"]] == ["shop.orders"]
    finally:
        second.stop()


def test_sigterm_ends_everything_and_says_so(own_suite: Suite) -> None:
    children = pids(own_suite)

    said = own_suite.stop()

    assert own_suite.process is not None
    assert own_suite.process.returncode == 0
    assert "stopped" in said
    assert [name for name, pid in children.items() if alive(pid)] == []


def test_a_load_under_way_is_finished_before_the_end(own_suite: Suite) -> None:
    """SIGTERM comes while the body is still being sent; the answer is a receipt all the same."""
    assert own_suite.process is not None
    process = own_suite.process

    def body() -> Any:
        yield b"a,b\n"
        for block in range(20):
            if block == 10:
                process.send_signal(signal.SIGTERM)
            yield b"".join(b"%d,x\n" % number for number in range(2000))

    with own_suite.client() as lake:
        answer = lake.post("/v1/loads/shop/orders", content=body(), headers={"Content-Type": "text/csv"})

    assert answer.status_code in (201, 202), answer.text
    if answer.status_code == 201:
        assert answer.json()["rows_written"] == 40_000
    process.communicate(timeout=90)
    assert process.returncode == 0


def test_a_killed_supervisor_leaves_no_child_behind_for_ever(tmp_path: Path) -> None:
    suite = start_suite(tmp_path)
    assert suite.process is not None
    children = pids(suite)

    suite.process.kill()
    suite.process.wait()

    if sys.platform == "linux":
        until(lambda: not any(alive(pid) for pid in children.values()))
    again = start_suite(tmp_path)
    try:
        with again.client() as lake:
            assert lake.get("/v1/datasets").status_code == 200
    finally:
        again.stop()


def test_a_second_up_says_who_runs(shared_suite: Suite) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "lakegate", "up", "--port", "0", "--home", str(shared_suite.home)],
        capture_output=True,
        text=True,
        env=shared_suite.environment,
        check=False,
        timeout=60,
    )

    assert shared_suite.process is not None
    assert second.returncode == 1
    assert str(shared_suite.process.pid) in second.stderr
    assert shared_suite.url in second.stderr
    assert "lakegate down" in second.stderr


def test_a_port_in_use_is_named_with_a_way_out(shared_suite: Suite, tmp_path: Path) -> None:
    port = shared_suite.state()["processes"]["gateway"]["port"]

    other = subprocess.run(
        [sys.executable, "-m", "lakegate", "up", "--port", str(port), "--home", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        env=shared_suite.environment,
        check=False,
        timeout=60,
    )

    assert other.returncode == 1
    assert f"Port {port} is in use" in other.stderr
    assert "--port" in other.stderr


def test_status_tells_what_runs(shared_suite: Suite) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "lakegate", "status", "--home", str(shared_suite.home), "--json"],
        capture_output=True,
        text=True,
        env=shared_suite.environment,
        check=True,
        timeout=60,
    )

    document = json.loads(told.stdout)
    assert document["url"] == shared_suite.url
    assert document["phase"] == "ready"
    assert {item["phase"] for item in document["processes"].values()} == {"ready"}
