"""The real servers that tests run against, wherever they can be had.

Each is looked for in this order: its address in the environment, a Docker engine, packages. What can't be had that
way is skipped with its reason, and the end of the run says so in one table. `LAKEGATE_TEST_REQUIRE=kafka,s3` (or
`all`) makes a missing server a failure instead.
"""

from __future__ import annotations

from servers.finding import Missing, Servers
from servers.processes import Control, ServerProcess

__all__ = ["Control", "Missing", "ServerProcess", "Servers"]
