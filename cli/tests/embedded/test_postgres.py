from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from lakegate.embedded.errors import DataFolderInUse, DataOfAnotherVersion, PasswordLost, PortInUse
from lakegate.embedded.postgres import EmbeddedPostgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "pg")
    yield server
    server.stop()


async def run(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_data_outlives_a_stop_and_a_killed_server(server: EmbeddedPostgres) -> None:
    url = server.start()
    await run(url, "CREATE TABLE kept (a int)")
    server.stop()
    assert server.start() == url
    await run(url, "INSERT INTO kept VALUES (7)")
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert server.start() == url
    assert await run(url, "SELECT a FROM kept") == 7


async def test_writes_are_durable(server: EmbeddedPostgres) -> None:
    url = server.start()
    settings = (
        "current_setting('fsync') || current_setting('synchronous_commit') || current_setting('full_page_writes')"
    )
    assert await run(url, f"SELECT {settings}") == "ononon"


async def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    url = server.start()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run(url.replace("postgres:", "postgres:x", 1), "SELECT 1")


def test_only_we_may_read_the_password(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    assert (tmp_path / "pg" / "password").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "pg" / "password.new").exists()


async def test_a_server_left_by_a_killed_parent_is_replaced(server: EmbeddedPostgres, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, os, signal\n"
        "from lakegate.embedded.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(server.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, tmp_path / "pg", stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = await parent.stdout.readline()
    await parent.wait()
    orphan = psutil.Process(int(pid))
    url = server.start()
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert await run(url, "SELECT 1") == 1


async def test_a_pid_file_that_names_another_program_is_ignored(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    pid_file = tmp_path / "pg" / "cluster" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *content[1:]]) + "\n")
    assert await run(server.start(), "SELECT 1") == 1


def test_a_second_server_on_the_folder_is_told_who_has_it(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    with pytest.raises(DataFolderInUse, match=f"Process {os.getpid()}"):
        EmbeddedPostgres(tmp_path / "pg").start()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            EmbeddedPostgres(tmp_path / "pg", port=port).start()


def test_a_cluster_of_another_version_is_not_touched(server: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "pg" / "cluster").mkdir(parents=True)
    (tmp_path / "pg" / "cluster" / "PG_VERSION").write_text("16\n")
    with pytest.raises(DataOfAnotherVersion, match="PostgreSQL 16"):
        server.start()


def test_a_lost_password_is_said_so(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    server.stop()
    (tmp_path / "pg" / "password").unlink()
    with pytest.raises(PasswordLost):
        server.start()


def test_an_interrupted_first_start_is_begun_anew(server: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "pg" / "cluster.new" / "base").mkdir(parents=True)
    assert server.start()
