"""Kafka: LAKEGATE_TEST_KAFKA (bootstrap servers), else Docker, else Apache's jars by Maven. One KRaft node."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from lakegate.embedded.ports import free_ports
from servers.docker import Container, one_port, require_docker
from servers.finding import Found, Source
from servers.maven import jars, java
from servers.processes import Control, Missing, ServerProcess, listens

VERSION = "4.3.1"
ADDRESS = "LAKEGATE_TEST_KAFKA"
_COORDINATES = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")

# A broker that was killed may come back as soon as its session has run out: the default is 9 s.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "group.min.session.timeout.ms": "500",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}


@dataclass(frozen=True)
class Kafka:
    """`control` is None for a broker that somebody else runs: tests that hurt it are skipped then."""

    bootstrap: str
    control: Control | None


def from_address(_: Path) -> Found | None:
    address = os.environ.get(ADDRESS)
    if not address:
        raise Missing(f"{ADDRESS} is not set")
    return Found(Kafka(address, None), "address", address)


def from_docker(_: Path) -> Found | None:
    require_docker()
    port = one_port()
    environment = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in _SETTINGS.items()}
    environment |= {
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
    }
    container = Container(
        f"apache/kafka:{VERSION}", 9092, port=port, ready=lambda: _answers(port), environment=environment
    )
    container.start()
    return Found(Kafka(f"127.0.0.1:{port}", container), "Docker", f"apache/kafka:{VERSION}", container.stop)


def fetch() -> Path:
    """The folder of Kafka's jars, which come by Maven the first time. Raises Missing."""
    return jars(f"kafka-{VERSION}", _COORDINATES)


def from_packages(folder: Path) -> Found | None:
    port, controller_port = free_ports(2)
    program = java()
    classes = f"{fetch()}/*"
    settings = _SETTINGS | {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(folder / "data"),
    }
    properties = folder / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    # an id that began with a dash would be taken for an option
    cluster = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    format_storage = [program, "-Xmx128m", "-cp", classes, "kafka.tools.StorageTool", "format"]
    done = subprocess.run([*format_storage, "-t", cluster, "-c", properties], capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"formatting the storage failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    heap = ["-Xmx256m", "-Xms256m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    # without the second compiler it starts 1.4 s sooner; a benchmark wants it
    quick = [] if os.environ.get("LAKEGATE_TEST_KAFKA_FAST") else ["-XX:TieredStopAtLevel=1"]
    process = ServerProcess(
        [program, *heap, *quick, "-cp", classes, "kafka.Kafka", properties],
        folder=folder,
        ready=lambda: _answers(port),
    )
    process.start()
    return Found(Kafka(f"127.0.0.1:{port}", process), "packages", f"org.apache.kafka {VERSION} by Maven", process.stop)


SOURCES: dict[str, Source] = {"address": from_address, "Docker": from_docker, "packages": from_packages}


def _answers(port: int) -> bool:
    """Whether the broker is registered and lists itself. In a thread: the caller may run in an event loop."""
    if not listens(port):
        return False
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(_lists_a_broker(port))))
    thread.start()
    thread.join()
    return answers == [True]


async def _lists_a_broker(port: int) -> bool:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=2000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await admin.close()
