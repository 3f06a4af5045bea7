"""The suite under fault: `lakegate up` on free ports, with its events on a Kafka of ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from servers.kafka import Kafka
from suites import Suite, start_suite

from chaos.launch import ENVIRONMENTS
from chaos.ledger import now

_TESTS = Path(__file__).parents[1]
ON_KAFKA = ("CATALOG", "INGEST", "LINEAGE")
BACK_SECONDS = 120.0
_LOOK_SECONDS = 0.02


@dataclass
class Stage:
    """What faults act on. `disk` is the small disk of spool and warehouse, None where it can't be had."""

    suite: Suite
    kafka: Kafka
    environments: Path
    disk: Path | None = None
    isolated: bool = False

    @classmethod
    def start(cls, folder: Path, kafka: Kafka) -> Stage:
        """Returns when all services are ready. `folder` holds everything, the supervisor's words in `said.log`."""
        environments = folder / "environments"
        environments.mkdir()
        on_kafka = {f"{service}_KAFKA__BOOTSTRAP": kafka.bootstrap for service in ON_KAFKA}
        # the child has to find this package too, by whichever way we were started
        paths = os.pathsep.join(str(path) for path in (_TESTS, _TESTS / "e2e"))
        suite = start_suite(
            folder,
            module="chaos.launch",
            environment={**on_kafka, ENVIRONMENTS: str(environments), "PYTHONPATH": paths},
        )
        assert suite.process is not None
        threading.Thread(target=_write_down, args=(suite.process, folder / "said.log"), daemon=True).start()
        return cls(suite, kafka, environments)

    def stop(self) -> None:
        process = self.suite.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def processes(self) -> list[str]:
        """What the supervisor keeps running: the services, the database, and any worker beside them."""
        return sorted(self.suite.state()["processes"])

    def port(self, name: str) -> int:
        port: int = self.suite.state()["processes"][name]["port"]
        return port

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.suite.state()["processes"][name]["pid"])

    def kill(self, name: str) -> int:
        """SIGKILL; the supervisor is the one who starts it again. The pid that it had."""
        pid: int = self.suite.state()["processes"][name]["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def restarted(self, name: str, killed: int) -> None:
        """Until the supervisor says that another process of that name is ready."""
        deadline = now() + BACK_SECONDS
        while now() < deadline:
            item: dict[str, Any] = self.suite.state()["processes"][name]
            if item["phase"] == "ready" and item["pid"] not in (None, killed):
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise TimeoutError(f"{name} did not come back within {BACK_SECONDS:g} s")

    def change_environment(self, name: str, environment: Mapping[str, str]) -> None:
        """For the next start of that service; empty: as all others."""
        (self.environments / f"lakegate_{name}.json").write_text(json.dumps(dict(environment)))


def _write_down(process: subprocess.Popen[str], path: Path) -> None:
    """A pipe that nobody reads would stop the supervisor."""
    assert process.stdout is not None
    with path.open("w") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
