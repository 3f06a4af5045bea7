"""Kafka: LAKEGATE_TEST_KAFKA (bootstrap servers), else Docker, else Apache's jars by Maven. One KRaft node."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lakegate.embedded.ports import free_ports
from servers.docker import Container, one_port, require_docker
from servers.finding import Found, Source
from servers.maven import jars, java
from servers.processes import Control, Missing, ServerProcess, listens

VERSION = "4.3.1"
ADDRESS = "LAKEGATE_TEST_KAFKA"
_COORDINATES = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")

USER = "lakegate"
_SECURED = "SECURED"
_MODULES = "org.apache.kafka.common.security"
_PLAIN, _SCRAM = f"{_MODULES}.plain.PlainLoginModule", f"{_MODULES}.scram.ScramLoginModule"

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


@dataclass(frozen=True)
class SecuredKafka:
    """`authority` is the file of whom to trust."""

    bootstrap: str
    username: str
    password: str
    authority: Path


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
    (port,) = free_ports(1)
    listeners = {"listeners": f"PLAINTEXT://127.0.0.1:{port}", "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    process = _start(folder, listeners, port)
    return Found(Kafka(f"127.0.0.1:{port}", process), "packages", f"org.apache.kafka {VERSION} by Maven", process.stop)


def secured_from_packages(folder: Path) -> Found | None:
    """A broker whose clients come by TLS and log in, by PLAIN or SCRAM."""
    plain, port = free_ports(2)
    password = secrets.token_urlsafe(24)
    authority, store = _certificate(folder)
    login = f'username="{USER}" password="{password}"'
    own = f"listener.name.{_SECURED.lower()}"
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},{_SECURED}://127.0.0.1:{port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},{_SECURED}://127.0.0.1:{port}",
        "listener.security.protocol.map": f"{_SETTINGS['listener.security.protocol.map']},{_SECURED}:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{own}.plain.sasl.jaas.config": f'{_PLAIN} required {login} user_{USER}="{password}";',
        f"{own}.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
        f"{own}.ssl.keystore.type": "PEM",
        f"{own}.ssl.keystore.location": str(store),
    }
    process = _start(folder, settings, plain, "--add-scram", f"SCRAM-SHA-512=[name={USER},password={password}]")
    server = SecuredKafka(f"127.0.0.1:{port}", USER, password, authority)
    return Found(server, "packages", f"org.apache.kafka {VERSION} by Maven, SASL_SSL", process.stop)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Of this machine, signed by itself: the authority's file, and key and certificate in one as Kafka reads them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority, store = folder / "authority.pem", folder / "broker.pem"
    authority.write_bytes(certificate)
    store.write_bytes(private + certificate)
    return authority, store


def _start(folder: Path, own: dict[str, str], port: int, *storage: str) -> ServerProcess:
    """A broker with these listeners, of which that at `port` needs no login; `storage` goes to its formatting."""
    (controller_port,) = free_ports(1)
    program = java()
    classes = f"{fetch()}/*"
    settings = _SETTINGS | own
    settings |= {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"{own['listeners']},CONTROLLER://127.0.0.1:{controller_port}",
        "log.dirs": str(folder / "data"),
    }
    properties = folder / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    # an id that began with a dash would be taken for an option
    cluster = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    format_storage = [program, "-Xmx128m", "-cp", classes, "kafka.tools.StorageTool", "format"]
    done = subprocess.run([*format_storage, "-t", cluster, "-c", properties, *storage], capture_output=True, text=True)
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
    return process


SOURCES: dict[str, Source] = {"address": from_address, "Docker": from_docker, "packages": from_packages}
SECURED_SOURCES: dict[str, Source] = {"packages": secured_from_packages}


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
