"""What the command line reads from its environment; the only module here that does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path


@dataclass(frozen=True)
class Environment:
    """LAKEGATE_URL and LAKEGATE_KEY win over a profile; LAKEGATE_PROFILE names one; LAKEGATE_HOME is the data folder.

    LAKEGATE_CONFIG names the config file, LAKEGATE_POSTGRES_URL a PostgreSQL server for `lakegate up`.
    """

    url: str | None
    key: str | None
    profile: str | None
    config: Path
    home: Path
    postgres_url: str | None


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
    )


def inherited_environment() -> dict[str, str]:
    """A child's environment: ours without the settings of Lakegate's services, which `lakegate up` decides.

    All but those that name servers it does not start: CATALOG_STORE__* (the catalog store on MongoDB) and
    {SERVICE}_KAFKA__* (the event log on Kafka).
    """
    ours = ("LAKEGATE_", "GATEWAY_", "CATALOG_", "INGEST_", "LINEAGE_")
    theirs = ("CATALOG_STORE__", "CATALOG_KAFKA__", "INGEST_KAFKA__", "LINEAGE_KAFKA__")
    kept = (name for name in os.environ if name.startswith(theirs) or not name.startswith(ours))  # noqa: TID251
    return {name: os.environ[name] for name in kept}  # noqa: TID251
