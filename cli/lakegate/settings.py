"""What the command line reads from its environment; the only module here that does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path


@dataclass(frozen=True)
class Environment:
    """LAKEGATE_URL and LAKEGATE_KEY win over a profile; LAKEGATE_PROFILE names one; LAKEGATE_HOME is the data folder.

    LAKEGATE_TRACE=1 asks the gateway to record the trace of each request. LAKEGATE_CONFIG names the config file,
    LAKEGATE_POSTGRES_URL a PostgreSQL server for `lakegate up`. LAKEGATE_ROLLOUT_KEY signs a rollout's decisions.
    """

    url: str | None
    key: str | None
    profile: str | None
    config: Path
    home: Path
    postgres_url: str | None
    record_traces: bool = False
    rollout_key: str | None = None


def read_environment() -> Environment:
    read = os.environ.get  # noqa: TID251 - this is the place
    config = read("LAKEGATE_CONFIG")
    return Environment(
        url=read("LAKEGATE_URL") or None,
        key=read("LAKEGATE_KEY") or None,
        profile=read("LAKEGATE_PROFILE") or None,
        config=Path(config) if config else user_config_path("lakegate") / "config.toml",
        home=Path(read("LAKEGATE_HOME") or ".lakegate"),
        postgres_url=read("LAKEGATE_POSTGRES_URL") or None,
        rollout_key=read("LAKEGATE_ROLLOUT_KEY") or None,
        record_traces=read("LAKEGATE_TRACE", "") not in ("", "0"),
    )


def inherited_environment() -> dict[str, str]:
    """A child's environment: ours without the command line's own settings. Those of the services are for them: each
    refuses to start with one that it does not know."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAKEGATE_")}  # noqa: TID251
