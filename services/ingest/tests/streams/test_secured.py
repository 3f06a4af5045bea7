"""Streams through brokers that want TLS and a login."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import StreamSettings

from .conftest import QUICK, Streams


@pytest.fixture
async def streams(
    secured_kafka: Any, settings: Any, catalog: Any, streams_at: Any, tmp_path: Path
) -> AsyncIterator[Streams]:
    login = KafkaSettings(
        bootstrap=secured_kafka.bootstrap, security="SASL_SSL", username=secured_kafka.username,
        password=SecretStr(secured_kafka.password), ca_file=secured_kafka.authority, partitions=1, session_seconds=6,
    )  # fmt: skip
    # a group of its own: the database has streams of other brokers, too
    own = StreamSettings(**QUICK, group=f"secured-{tmp_path.name}")
    async with serving(create_app(settings(catalog.url, tmp_path / "spool", kafka=login, streams=own))) as url:
        yield streams_at(url)


@pytest.mark.usefixtures("forgotten")
async def test_rows_reach_their_table_through_brokers_with_a_login(streams: Streams) -> None:
    assert (await streams.send("secured.t", b'{"id": 1}')).status_code == 202
    once = await streams.send("secured.t", b'{"id": 2}', headers={"idempotency-key": "x"})
    assert once.status_code == 202, once.text
    await streams.has("secured.t", [1, 2])


@pytest.mark.parametrize("module", ["lakegate_ingest", "lakegate_ingest.streams"])
async def test_with_a_wrong_password_a_process_ends_and_says_why_and_not_what(
    secured_kafka: Any, settings: Any, catalog: Any, tmp_path: Path, module: str
) -> None:
    wrong = "certainly-not-this"
    environment = settings.environment(
        catalog.url,
        tmp_path / "spool",
        INGEST_PORT="0",
        INGEST_MANAGEMENT_PORT="0",
        INGEST_LOG_LEVEL="debug",
        INGEST_KAFKA__BOOTSTRAP=secured_kafka.bootstrap,
        INGEST_KAFKA__SECURITY="SASL_SSL",
        INGEST_KAFKA__SASL_MECHANISM="PLAIN",
        INGEST_KAFKA__USERNAME=secured_kafka.username,
        INGEST_KAFKA__PASSWORD=wrong,
        INGEST_KAFKA__CA_FILE=str(secured_kafka.authority),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode not in (0, None)
    assert '"event":"kafka_login_refused"' in said
    assert "KAFKA__PASSWORD" in said
    assert wrong not in said
