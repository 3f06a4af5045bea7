"""Brokers behind TLS and a login, real ones: who has the password gets in, and who has not is told at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from servers.kafka import SecuredKafka

from lakegate_chassis.eventlog.kafka.connections import Connections, end
from lakegate_chassis.eventlog.kafka.login import LoginRefused, check_login
from lakegate_chassis.eventlog.kafka.topics import Topics
from lakegate_chassis.settings import KafkaSettings

MECHANISMS = ["SCRAM-SHA-512", "PLAIN"]


@pytest.fixture
def kafka_of(secured_kafka: SecuredKafka) -> Any:
    """kafka_of(**changes) -> settings that let us in, but for the changes."""

    def settings(**changes: Any) -> KafkaSettings:
        given: dict[str, Any] = {
            "bootstrap": secured_kafka.bootstrap,
            "security": "SASL_SSL",
            "username": secured_kafka.username,
            "password": SecretStr(secured_kafka.password),
            "ca_file": secured_kafka.authority,
            "partitions": 1,
        }
        return KafkaSettings(**given | changes)

    return settings


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_who_has_the_password_writes_and_reads_by_tls(kafka_of: Any, mechanism: str) -> None:
    settings = kafka_of(sasl_mechanism=mechanism)
    await check_login(settings)
    connections = Connections(settings)
    topic = f"secured-{uuid4().hex}"
    await Topics(connections).ensure([topic])
    async with connections.producer() as producer:
        await producer.send_and_wait(topic, b"hello")
    member = connections.member(topic)
    member.subscribe([topic])
    await member.start()
    try:
        assert (await member.getone()).value == b"hello"
    finally:
        await end(member)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_named_without_being_told(kafka_of: Any, mechanism: str) -> None:
    with pytest.raises(LoginRefused) as refused:
        await check_login(kafka_of(sasl_mechanism=mechanism, password=SecretStr("not-the-password")))
    message = str(refused.value)
    assert "KAFKA__PASSWORD" in message
    assert mechanism in message
    assert "not-the-password" not in message


async def test_a_mechanism_or_an_authority_that_the_brokers_do_not_have_is_named(kafka_of: Any, tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="SCRAM-SHA-256"):
        await check_login(kafka_of(sasl_mechanism="SCRAM-SHA-256"))
    with pytest.raises(LoginRefused, match="KAFKA__CA_FILE"):
        await check_login(kafka_of(ca_file=None))


async def test_brokers_that_are_away_are_no_reason_not_to_start(kafka_of: Any) -> None:
    await check_login(kafka_of(bootstrap="127.0.0.1:9"))
