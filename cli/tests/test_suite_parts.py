"""The supervisor's parts by themselves: ports, lock, state, logs, leftovers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakegate.embedded import processes
from lakegate.embedded.database import is_postgres_url
from lakegate.embedded.layout import ForeignFolder, Home, last_lines
from lakegate.embedded.leftovers import end_leftovers
from lakegate.embedded.lock import SuiteLock, SuiteRunning, holder
from lakegate.embedded.ports import Ports, PortTaken, free_ports, is_somebodys
from lakegate.embedded.secret_files import secret
from lakegate.embedded.services import PUBLIC_KEYS, services
from lakegate.embedded.state import ProcessState, SuiteState, read_state, running, write_state
from lakegate_chassis.settings import load
from lakegate_ingest.settings import IngestSettings

URLS = {name: f"postgresql://{name}" for name in ("gateway", "catalog", "ingest", "lineage")}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "data")
    made.make()
    return made


def state(pid: int) -> SuiteState:
    return SuiteState(pid=pid, url="http://x", profile="local", version="0", started_at=datetime.now(UTC))


def test_ports_follow_the_base() -> None:
    ports = Ports.from_base(8080)

    assert ports.api == {"gateway": 8080, "catalog": 8081, "ingest": 8082, "lineage": 8083}
    assert ports.management["gateway"] == 9080


def test_port_zero_takes_eight_different_ones() -> None:
    ports = Ports.from_base(0)

    assert len({*ports.api.values(), *ports.management.values()}) == 8
    ports.check()


@pytest.mark.skipif(sys.platform != "linux", reason="the claims are abstract names of Linux")
def test_two_programs_at_the_same_place_are_not_given_the_same_ports() -> None:
    """As two suites that start at once: neither listens yet."""
    ours = free_ports(3)
    program = (
        "import itertools; from lakegate.embedded import ports; "
        f"ports._TURNS = itertools.count({min(ours)} - ports._FREE_RANGE.start); print(*ports.free_ports(8))"
    )
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert {int(port) for port in theirs.stdout.split()}.isdisjoint(ours)


def test_a_taken_port_is_named_with_its_user_and_a_way_out() -> None:
    ports = Ports.from_base(0)
    with socket.create_server(("127.0.0.1", ports.management["ingest"])), pytest.raises(PortTaken) as caught:
        ports.check()

    assert f"Port {ports.management['ingest']} is in use" in str(caught.value)
    assert "ingest's management listener" in str(caught.value)
    assert "--port" in str(caught.value)


def test_one_suite_per_folder_and_the_second_learns_who(home: Home) -> None:
    with SuiteLock(home.lock):
        assert holder(home.lock) == os.getpid()
        with pytest.raises(SuiteRunning, match=str(os.getpid())), SuiteLock(home.lock):
            pass

    assert holder(home.lock) is None


def test_a_lock_goes_with_its_process(home: Home) -> None:
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from lakegate.embedded.lock import SuiteLock\n"
            f"with SuiteLock(Path({str(home.lock)!r})): print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    held.stdout.readline()
    assert holder(home.lock) == held.pid

    held.kill()
    held.communicate()

    assert holder(home.lock) is None


def test_the_state_of_a_suite_that_is_gone_is_not_taken_for_a_running_one(home: Home) -> None:
    write_state(home, state(os.getpid()))
    assert read_state(home) is not None
    assert running(home) is None

    with SuiteLock(home.lock):
        assert running(home) == read_state(home)


def test_a_damaged_state_is_no_state(home: Home) -> None:
    home.state.write_text('{"pid": ')

    assert read_state(home) is None


def test_secrets_are_made_once_and_private(home: Home) -> None:
    path = home.secrets / "admin.key"

    first = secret(path, "lgk_")

    assert secret(path, "lgk_") == first
    assert first.startswith("lgk_")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700


def test_wiping_removes_what_we_name_and_nothing_else(home: Home) -> None:
    (home.warehouse / "table").mkdir()
    (home.path / "notes.txt").write_text("mine")
    home.log("suite").write_text("said\n")

    with SuiteLock(home.lock):
        home.wipe()

    left = {entry.name for entry in home.path.iterdir() if not entry.is_dir() or any(entry.iterdir())}
    assert left == {"lock", "logs", "notes.txt", ".gitignore", ".lakegate-home"}


def test_a_folder_of_somebody_elses_is_neither_made_ours_nor_wiped(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "thesis.txt").write_text("mine")
    home = Home.at(tmp_path)

    with pytest.raises(ForeignFolder, match="no data folder of Lakegate"):
        home.wipe()
    with pytest.raises(ForeignFolder):
        home.make()

    assert [entry.name for entry in tmp_path.iterdir()] == ["warehouse"]
    assert (tmp_path / "warehouse" / "thesis.txt").exists()


def test_an_empty_folder_is_made_ours(tmp_path: Path) -> None:
    home = Home.at(tmp_path)

    home.make()
    home.make()

    assert home.doomed() == []
    (home.spool / "part").touch()
    assert home.doomed() == [home.spool]


def test_what_the_suite_writes_is_closed_to_others(home: Home) -> None:
    for folder in (home.logs, home.warehouse, home.spool, home.search, home.secrets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_open_logs_of_an_older_version_are_closed(home: Home) -> None:
    home.logs.chmod(0o755)

    home.make()

    assert stat.S_IMODE(home.logs.stat().st_mode) == 0o700


def test_a_look_at_the_lock_does_not_keep_a_suite_from_starting(home: Home) -> None:
    home.lock.touch()
    look = home.lock.open()
    fcntl.flock(look, fcntl.LOCK_SH)
    release = threading.Timer(0.05, look.close)
    release.start()

    with SuiteLock(home.lock):
        assert holder(home.lock) == os.getpid()
    release.join()


def test_logs_are_bounded_under_a_process_that_has_them_open(home: Home) -> None:
    log = home.log("ingest")
    home.log("catalog").write_bytes(b"small\n")
    with log.open("ab", buffering=0) as open_in_child:
        open_in_child.write(b"old\n" * 5_500_000)

        home.bound_logs()
        open_in_child.write(b"new\n")

    assert log.read_bytes() == b"new\n"
    assert log.with_suffix(".log.1").stat().st_size == 22_000_000
    assert sorted(entry.name for entry in home.logs.iterdir()) == ["catalog.log", "ingest.log", "ingest.log.1"]
    assert last_lines(log, after=22_000_000) == "new"


def test_a_saved_address_is_somebodys_when_it_answers_or_is_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_somebodys(f"http://127.0.0.1:{port}")
    assert not is_somebodys(f"http://127.0.0.1:{port}")
    assert is_somebodys("https://lake.example")


@pytest.mark.parametrize("url", ["garbage", "mysql://h/db", "postgresql://", "postgresql://h:port/db"])
def test_what_is_no_postgres_url_is_told_before_anything_starts(url: str) -> None:
    assert not is_postgres_url(url)


def test_the_end_of_a_log_is_what_was_added(home: Home) -> None:
    log = home.log("suite")
    log.write_text("before\n" * 3)

    begins = log.stat().st_size
    log.write_text("before\n" * 3 + "after\n")

    assert last_lines(log, after=begins) == "after"


def test_leftovers_are_ended_only_when_they_are_ours(home: Home) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", "lakegate_ingest"], stdin=subprocess.PIPE
    )
    started = processes.start_time(child.pid)
    assert started is not None
    said: list[str] = []

    def end(name: str, started: float) -> None:
        made = ProcessState(name=name, port=free_ports(1)[0], pid=child.pid, started=started, log=home.log(name))
        write_state(home, state(1).model_copy(update={"processes": {name: made}}))
        end_leftovers(home, said.append)

    end("ingest", started - 100)  # another process has the pid by now
    end("gateway", started)  # another program
    assert (child.poll(), said) == (None, [])
    end("ingest", started)
    assert child.wait() == -signal.SIGTERM
    assert f"pid {child.pid}" in said[0]
    child.communicate()


def test_an_end_is_named() -> None:
    assert processes.how_it_ended(3) == "exit code 3"
    assert processes.how_it_ended(-9) == "SIGKILL"


def test_each_service_gets_its_own_settings_and_nobody_elses_secrets(home: Home) -> None:
    made = {item.name: item for item in services(home, Ports.from_base(8080), URLS, "lgk_admin", {"PATH": "/bin"})}

    assert made["gateway"].environment["GATEWAY_BOOTSTRAP__KEY"] == "lgk_admin"
    assert made["ingest"].environment["INGEST_POSTGRES__URL"] == "postgresql://ingest"
    for name in ("catalog", "ingest", "lineage"):
        given = str(dict(made[name].environment))
        assert "lgk_admin" not in given
        assert "private" not in given.lower()
        assert [url for other, url in URLS.items() if other != name and url in given] == []


def test_a_setting_of_the_environment_reaches_the_service_that_reads_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {
        "INGEST_SPOOL__QUOTA_BYTES": "123456",
        "INGEST_SPOOL__DIR": str(tmp_path / "fast"),
        "INGEST_ENGINE__THREADS": "3",
        "ingest_body__max_ratio": "77",
        "INGEST_DRAIN_SECONDS": "9",
        "INGEST_PORT": "1",
        "ingest_management_port": "2",
        "CATALOG_OBJECTS__SECRET": "only the catalog's, and ingest's",
        "GATEWAY_LIMITS__REQUESTS_PER_SECOND": "5",
    }
    ports = Ports.from_base(8080)
    made = {item.name: item for item in services(home, ports, URLS, "lgk_admin", said)}
    (home.secrets / "keys").mkdir()
    (home.secrets / "keys" / PUBLIC_KEYS).write_text("{}")
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in made["ingest"].environment.items():
        if not name.startswith("INGEST_OBJECTS__"):
            monkeypatch.setenv(name, value)
    read = load(IngestSettings)
    assert (read.spool.quota_bytes, read.spool.dir, read.body.max_ratio) == (123456, tmp_path / "fast", 77)
    assert (read.engine.threads, read.drain_seconds) == (3, 9)
    assert (read.port, read.management_port) == (ports.api["ingest"], ports.management["ingest"])
    assert made["ingest"].environment["INGEST_OBJECTS__SECRET"] == said["CATALOG_OBJECTS__SECRET"]
    assert not [name for name in made["ingest"].environment if name.startswith(("CATALOG_", "GATEWAY_"))]


def test_without_a_word_of_the_environment_folders_are_those_of_the_suite(home: Home) -> None:
    made = {item.name: item for item in services(home, Ports.from_base(8080), URLS, "lgk_admin", {})}
    assert made["ingest"].environment["INGEST_SPOOL__DIR"] == str(home.spool)
    assert made["catalog"].environment["CATALOG_SEARCH__DIR"] == str(home.search)
    assert made["gateway"].environment["GATEWAY_DRAIN_SECONDS"] == "0.5"
