"""What the command line reads from its environment; the only module here that does."""

from __future__ import annotations

import os
import re
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
    """A child's environment: ours without the settings of Lakegate's services, which `lakegate up` decides.

    All but those that name servers it does not start, Kafka, MongoDB, an object store and the trace collector:
    *_KAFKA__* with what follows from it (INGEST_STREAMS__*), CATALOG_STORE__*, CATALOG_WAREHOUSE__*, *_OBJECTS__*,
    *_TRACE__*; where large loads run, INGEST_WORKER__*; and what only says how to report: *_LOG_LEVEL,
    *_TENANT_CLASSES.
    """
    ours = ("LAKEGATE_", "GATEWAY_", "CATALOG_", "INGEST_", "LINEAGE_")
    theirs = re.compile(
        r"CATALOG_(STORE|WAREHOUSE)__|INGEST_(STREAMS|WORKER)__|[A-Z]+_(KAFKA__|OBJECTS__|TRACE__|LOG_LEVEL$|TENANT_CLASSES$)"
    )
    kept = (name for name in os.environ if theirs.match(name) or not name.startswith(ours))  # noqa: TID251
    return {name: os.environ[name] for name in kept}  # noqa: TID251
