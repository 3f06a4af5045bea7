"""An object store that speaks S3: LAKEGATE_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY (and _REGION, _BUCKET)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from servers.finding import Found, Source
from servers.processes import Control, Missing

_PREFIX = "LAKEGATE_TEST_S3_"


@dataclass(frozen=True)
class S3:
    """A test makes what it needs under `bucket`, which exists. `control` as for Kafka."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    control: Control | None


def from_address(_: Path) -> Found | None:
    endpoint = os.environ.get(f"{_PREFIX}ENDPOINT")
    if not endpoint:
        raise Missing(f"{_PREFIX}ENDPOINT is not set")
    server = S3(
        endpoint=endpoint,
        access_key=os.environ[f"{_PREFIX}ACCESS_KEY"],
        secret_key=os.environ[f"{_PREFIX}SECRET_KEY"],
        region=os.environ.get(f"{_PREFIX}REGION", "us-east-1"),
        bucket=os.environ.get(f"{_PREFIX}BUCKET", "lakegate-test"),
        control=None,
    )
    return Found(server, "address", endpoint)


SOURCES: dict[str, Source] = {"address": from_address}
