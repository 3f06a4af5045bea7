"""A real PostgreSQL server as a child process of ours: made, started, stopped, started again."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil

from lakegate.embedded import binaries
from lakegate.embedded.errors import (
    DataFolderForbidden,
    DataFolderInUse,
    DataOfAnotherVersion,
    PasswordLost,
    PortInUse,
    ServerFailed,
)
from lakegate.embedded.ports import free_ports

HOST = "127.0.0.1"
SUPERUSER = "postgres"

# Small, and durable: fsync, full_page_writes and synchronous_commit keep their defaults (on).
_SETTINGS = {
    "listen_addresses": HOST,
    # TCP only: a socket path is limited to 107 bytes and its folder's permissions differ under root.
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    # No standby will ever follow, so less is written and three helper processes are not started.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "2",
    "autovacuum_max_workers": "1",
    "jit": "off",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_duration_statement": "1s",
    "log_checkpoints": "off",
    "cluster_name": "lakegate",
}
# The messages we read must be English, and no PG* variable of the caller's may reach the server.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
_LOG_KEPT_BYTES = 10 * 1024 * 1024
_POLL_SECONDS = 0.01


class EmbeddedPostgres:
    """One server on `data_dir` (cluster, password 0600, lock, log). `port` 0 takes a free one and keeps it
    for later starts of the same object. Methods block; call them from a thread in asynchronous code.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        log_path: Path | None = None,
        in_child: Callable[[], None] | None = None,
    ) -> None:
        self._home = data_dir.resolve()
        self._cluster = self._home / "cluster"
        self._log_path = log_path or self._home / "postgres.log"
        # Called in the child before the server runs; a supervisor ties the server's life to its own with it.
        self._in_child = in_child
        self._port = port
        self._bin = binaries.bin_folder()
        self._user = binaries.ServerUser(name="")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        # Folders of which the last start had to let others pass, for the caller to say so.
        self.opened: list[Path] = []

    @property
    def port(self) -> int:
        return self._port

    @property
    def log_path(self) -> Path:
        return self._log_path

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The running postmaster, for a supervisor to watch; call start() again after it died."""
        return self._process

    @property
    def admin_url(self) -> str:
        """URL of the superuser on the database `postgres`, valid between start() and stop()."""
        return f"postgresql://{SUPERUSER}:{quote(self._read_password())}@{HOST}:{self._port}/postgres"

    def start(self, *, timeout_seconds: float = 60.0) -> str:
        """Make the cluster if there is none, serve it, and return the admin URL once it accepts connections.

        The time-out covers the recovery after a crash. Raises an EmbeddedPostgresError.
        """
        if self._process is not None and self._process.poll() is None:
            return self.admin_url
        self._take_lock()
        try:
            self._user = binaries.server_user(self._cluster)
            self.opened = binaries.open_to(self._user, self._cluster, self._bin / "postgres")
            binaries.open_programs_to(self._user, self._bin)
            self._make_cluster()
            self._end_orphan()
            self._serve(time.monotonic() + timeout_seconds)
        except BaseException:
            self._end_child()
            self._drop_lock()
            raise
        return self.admin_url

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Fast shutdown: sessions are ended, a checkpoint is written. Immediate when that takes too long."""
        self._end_child(timeout_seconds)
        self._drop_lock()

    def _take_lock(self) -> None:
        """Held for as long as this process lives: the kernel drops it after kill -9, so it is never stale."""
        if self._lock is not None:
            return
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            lock = (self._home / "lock").open("a+")
        except PermissionError as error:
            raise DataFolderForbidden(f"{self._home} can't be written: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise DataFolderInUse(
                f"Process {holder} already runs PostgreSQL on {self._home}: stop it first (lakegate down), "
                "or choose another data folder."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _make_cluster(self) -> None:
        """initdb into a folder beside and rename it, so that a cluster is either whole or absent."""
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            version = version_file.read_text().strip()
            if version != str(binaries.MAJOR):
                raise DataOfAnotherVersion(
                    f"{self._cluster} was written by PostgreSQL {version}, this is {binaries.MAJOR}: dump it "
                    "with the old version and load it here, or start afresh with lakegate up --fresh."
                )
            self._read_password()
            return
        made = self._home / "cluster.new"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        self._user.own(made)
        password_file = self._home / "password.new"
        _write_secret(password_file, self._make_password())
        self._user.own(password_file)
        try:
            answer = subprocess.run(
                [
                    self._bin / "initdb",
                    f"--pgdata={made}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # The builtin provider sorts the same on every machine and needs no locale installed.
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                ],
                **self._as_user(),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if answer.returncode != 0:
            raise ServerFailed(f"initdb failed in {made}: {answer.stderr.strip()[-1500:]}")
        made.rename(self._cluster)

    def _serve(self, deadline: float) -> None:
        while True:
            port = self._port or free_ports(1)[0]
            _check_port(port)
            failure = self._launch(port, deadline)
            if failure is None:
                self._port = port
                return
            if "Address already in use" in failure:
                if self._port:
                    raise PortInUse(_port_in_use(port))
            # After kill -9 of the postmaster its sessions hold the shared memory for a moment.
            elif "is still in use" not in failure:
                raise ServerFailed(f"PostgreSQL did not start on {self._cluster}. Its log ends:\n{failure}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL did not start in time on {self._cluster}:\n{failure}")
            time.sleep(0.1)

    def _launch(self, port: int, deadline: float) -> str | None:
        """None once the server is ready, else what it logged before it gave up."""
        settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(port)}).items()]
        with self._open_log() as log:
            begins = log.tell()
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._cluster, *settings],
                **self._as_user(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the supervisor: services drain before the database goes.
                start_new_session=True,
                preexec_fn=self._in_child,
            )
        while self._process.poll() is None:
            if self._says_ready(self._process.pid):
                return None
            if time.monotonic() > deadline:
                self._end_child()
                break
            time.sleep(_POLL_SECONDS)
        self._process = None
        with self._log_path.open("rb") as log_read:
            log_read.seek(begins)
            return log_read.read().decode(errors="replace").strip()[-1500:]

    def _says_ready(self, pid: int) -> bool:
        """postmaster.pid: line 1 is the pid, line 8 the state (PostgreSQL, pidfile.h)."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7] == "ready"

    def _pid_file_lines(self) -> list[str]:
        try:
            return [line.strip() for line in (self._cluster / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _end_orphan(self) -> None:
        """Stop the server that a killed parent left behind; drop a pid file whose pid is another program's.

        We hold the folder's lock, so no live parent is robbed. PostgreSQL itself deals with a dead pid.
        """
        lines = self._pid_file_lines()
        if not lines or not lines[0].isdigit():
            return
        try:
            orphan = psutil.Process(int(lines[0]))
            ours = orphan.name() == "postgres" and str(self._cluster) in orphan.cmdline()
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied:
            ours = False
        if not ours:
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            try:
                orphan.send_signal(number)
                orphan.wait(timeout=10)
                return
            except psutil.NoSuchProcess:
                return
            except psutil.TimeoutExpired:
                continue
        raise DataFolderInUse(f"The server {orphan.pid} that was left on {self._cluster} can't be stopped.")

    def _end_child(self, timeout_seconds: float = 10.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is not None:
                return
            process.send_signal(number)
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                continue

    def _make_password(self) -> str:
        path = self._home / "password"
        if not path.exists():
            _write_secret(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _read_password(self) -> str:
        try:
            return (self._home / "password").read_text()
        except FileNotFoundError as error:
            raise PasswordLost(
                f"{self._home / 'password'} is gone, and with it the way into the cluster beside it: put it "
                "back, or start afresh with lakegate up --fresh."
            ) from error

    def _open_log(self) -> IO[bytes]:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        if self._log_path.exists() and self._log_path.stat().st_size > _LOG_KEPT_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        log = self._log_path.open("ab")
        log.seek(0, os.SEEK_END)
        return log

    def _as_user(self) -> dict[str, Any]:
        return {
            "user": self._user.uid,
            "group": self._user.gid,
            "extra_groups": None if self._user.uid is None else [],
            "umask": 0o077,
            "cwd": "/",
            "env": _ENVIRONMENT,
        }


def _write_secret(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As PostgreSQL does: connections of a previous run in TIME_WAIT don't hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(_port_in_use(port)) from error
            raise


def _port_in_use(port: int) -> str:
    return f"Port {port} on {HOST} is taken by another program: stop it, or give PostgreSQL another port."
