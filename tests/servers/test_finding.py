from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakegate_chassis.testing import eventually
from servers.finding import Found, Servers
from servers.kafka import Kafka
from servers.mongodb import MongoDB
from servers.processes import Missing, ServerProcess


def absent(_: Path) -> Found | None:
    raise Missing("not here")


def test_the_first_place_that_has_a_server_wins_and_is_asked_once(tmp_path: Path) -> None:
    asked = []

    def present(folder: Path) -> Found:
        asked.append(folder)
        return Found("the server", "packages", "a note")

    servers = Servers(tmp_path)
    sources = {"address": absent, "packages": present, "later": absent}
    assert servers.get("kafka", sources) == servers.get("kafka", sources) == "the server"
    assert len(asked) == 1
    assert servers.table() == [("kafka", "packages", "a note")]


def test_a_server_that_no_place_has_is_missing_with_every_reason(tmp_path: Path) -> None:
    servers = Servers(tmp_path, frozenset({"all"}))
    for _ in range(2):
        with pytest.raises(Missing, match=r"address: not here; Docker: not here"):
            servers.get("kafka", {"address": absent, "Docker": absent})
    assert servers.table() == [("kafka", "MISSING", "address: not here; Docker: not here")]
    assert servers.is_required("kafka")


def test_a_server_that_ends_at_start_is_missing_with_what_it_said(tmp_path: Path) -> None:
    process = ServerProcess(
        [sys.executable, "-c", "print('no space left', flush=True); raise SystemExit(3)"],
        folder=tmp_path,
        ready=lambda: False,
    )
    with pytest.raises(Missing, match=r"exit code 3.*no space left"):
        process.start()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal is Linux")
async def test_a_server_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from servers.processes import ServerProcess
process = ServerProcess(["sleep", "600"], folder=Path({str(tmp_path)!r}), ready=lambda: True)
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""
    run, pid = _run(program)
    assert _lives(pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    await eventually(lambda: not _lives(pid))


def _run(program: str) -> tuple[subprocess.Popen[str], int]:
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        return run, int(run.stdout.readline())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_kafka_keeps_a_record_that_it_acknowledged_through_a_kill(kafka: Kafka) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    if kafka.control is None:
        pytest.skip("hurts the broker: only on one of our own")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("harness", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        await producer.send_and_wait("harness", b"before")
    kafka.control.kill()
    kafka.control.start()
    async with AIOKafkaConsumer(
        "harness", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=None
    ) as consumer:
        record = await consumer.getone()
    assert record.value == b"before"


async def test_mongodb_refuses_a_second_document_of_one_id(mongodb: MongoDB) -> None:
    motor = pytest.importorskip("motor.motor_asyncio")
    errors = pytest.importorskip("pymongo.errors")
    client = motor.AsyncIOMotorClient(mongodb.uri)
    documents = client["harness"]["documents"]
    await documents.insert_one({"_id": "a"})
    with pytest.raises(errors.DuplicateKeyError):
        await documents.insert_one({"_id": "a"})
    client.close()
