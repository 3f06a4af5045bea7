"""`python -m chaos.launch` is `lakegate`, but what CHAOS_ENVIRONMENTS/<module>.json holds is added to that child.

The folder is looked at whenever a child is started, so a fault that is a setting of one service (another clock, say)
is a file and a kill -9.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from lakegate.embedded import processes
from lakegate.main import app

_PR_SET_PDEATHSIG = 1
ENVIRONMENTS = "CHAOS_ENVIRONMENTS"


def main() -> None:
    if sys.platform == "linux":
        # as its own children do with it, it ends with the harness, however that ends
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    spawn = processes.spawn
    folder = Path(os.environ[ENVIRONMENTS])

    async def spawn_with(module: str, environment: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
        added = folder / f"{module}.json"
        if added.exists():
            environment = {**environment, **json.loads(added.read_text())}
        return await spawn(module, environment, log)

    processes.spawn = spawn_with
    app(prog_name="lakegate")


if __name__ == "__main__":
    main()
