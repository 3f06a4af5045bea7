"""Servers in containers, for machines with a Docker engine. testcontainers' reaper ends them after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lakegate.embedded.ports import free_ports
from servers.processes import Missing


class Container:
    """One container on a fixed port of the host, so that it has the same address after a restart."""

    def __init__(
        self,
        image: str,
        container_port: int,
        *,
        port: int,
        ready: Callable[[], bool],
        environment: Mapping[str, str],
        command: str | None = None,
    ) -> None:
        from testcontainers.core.container import DockerContainer

        self._ready = ready
        self._container = DockerContainer(image).with_bind_ports(container_port, port)
        for name, value in environment.items():
            self._container.with_env(name, value)
        if command:
            self._container.with_command(command)
        self._running: Any = None

    def start(self) -> None:
        import docker

        try:
            if self._running is None:
                self._container.start()
                self._running = self._container.get_wrapped_container()
            else:
                self._running.start()
        except docker.errors.DockerException as error:
            raise Missing(f"the container did not start: {error}") from error
        deadline = time.monotonic() + 120
        while not self._ready():
            if time.monotonic() > deadline:
                raise Missing("the container did not answer within 120 s")
            time.sleep(0.2)

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()

    def pause(self) -> None:
        self._running.pause()

    def resume(self) -> None:
        self._running.unpause()

    def stop(self) -> None:
        self._container.stop()


def require_docker() -> None:
    """Raises Missing when no engine answers within two seconds."""
    try:
        import docker
    except ImportError as error:
        raise Missing("the Python package is not installed") from error
    try:
        client = docker.from_env(timeout=2)
        client.ping()
        client.close()
    except docker.errors.DockerException as error:
        raise Missing("no engine answers") from error


def one_port() -> int:
    return free_ports(1)[0]
