"""Clients of a Kafka cluster, made from the settings; every one has bounded requests and a bounded end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from lakegate_chassis.eventlog.kafka.inner import cut_off
from lakegate_chassis.eventlog.kafka.resets import tell_resets
from lakegate_chassis.eventlog.kafka.watching import watched
from lakegate_chassis.logs import log
from lakegate_chassis.settings import KafkaSettings

CLIENT = "lakegate"
END_SECONDS = 5.0
METADATA_MS = 10_000
# Where a producer may gather records of one partition into one batch.
BATCH_BYTES = 1 << 20

tell_resets()


class Connections:
    """Makes clients; whoever makes one ends it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        # how to reach a broker and be let in
        self.login: dict[str, Any] = {
            "client_id": CLIENT,
            "request_timeout_ms": _ms(settings.request_seconds),
            "security_protocol": settings.security,
            "ssl_context": _tls(settings),
        }
        if settings.security.startswith("SASL") and settings.password is not None:
            self.login |= {
                "sasl_mechanism": settings.sasl_mechanism,
                "sasl_plain_username": settings.username,
                "sasl_plain_password": settings.password.get_secret_value(),
            }
        self._options = {
            "bootstrap_servers": settings.bootstrap,
            # A member that leads a rebalance just after a broker came back may not know a topic's partitions yet, and
            # gives them to nobody; the next look at the metadata is when they are noticed (aiokafka: five minutes).
            "metadata_max_age_ms": METADATA_MS,
            **self.login,
        }

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Any]:
        """Idempotent: a repeated request is stored once, and a partition's batches keep their order."""
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=self.settings.max_event_bytes,
        )
        await _start(producer)
        try:
            yield producer
        finally:
            await end(producer)

    async def transactional(self, transactional_id: str) -> Any:
        """A producer of transactions, started; whoever has it ends it with `end`. Raises ConnectionError."""
        producer = AIOKafkaProducer(
            **self._options,
            transactional_id=transactional_id,
            # one whose process died holds back readers behind it for so long
            transaction_timeout_ms=_ms(self.settings.request_seconds),
            acks="all",
            max_batch_size=BATCH_BYTES,
            max_request_size=self.settings.max_event_bytes,
        )
        await _start(producer)
        return producer

    def member(self, group: str) -> Any:
        """A consumer of a group, not started: the caller commits, and ends it with `end`."""
        session = _ms(self.settings.session_seconds)
        return AIOKafkaConsumer(
            **self._options,
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            # one strategy: aiokafka has no cooperative one
            partition_assignment_strategy=(StickyPartitionAssignor,),
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 5,
            # a member gets this long to finish what it has in hand when others join
            rebalance_timeout_ms=max(session, 30_000),
            # A handler may wait out an outage. Members that hang are the watchdog's business, not the group's.
            max_poll_interval_ms=24 * 3600 * 1000,
        )

    def watched(self, client: Any) -> AbstractAsyncContextManager[None]:
        """For a client that is used for long; raises ConnectionError in the block when it has come to nothing.

        Start a consumer inside, and end it outside.
        """
        return watched(client, self.admin)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Any]:
        """A consumer outside of groups, for offsets and single records."""
        # Short fetches: a question about offsets waits behind them on the same connection.
        consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            isolation_level="read_committed",
            # where what it was to read has expired: not past what is left
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=64 * 1024,
            fetch_max_wait_ms=50,
        )
        await _start(consumer)
        try:
            yield consumer
        finally:
            await end(consumer)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            with translated():
                await admin.start()
                yield admin
        finally:
            await end(admin)


@contextmanager
def translated() -> Iterator[None]:
    """Kafka's errors as ConnectionError: the supervisor starts anew, and what was not committed comes again."""
    try:
        yield
    except KafkaError as error:
        raise ConnectionError(f"Kafka: {error or type(error).__name__}") from error


async def end(client: Any) -> None:
    """Leave the group or give up the transaction, and close, within bounds; nothing of the client goes on after it.

    A producer flushes first. What was not acknowledged by then must not arrive later, behind what the next one sends.
    """
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    try:
        async with asyncio.timeout(END_SECONDS):
            await stop()
    except asyncio.CancelledError:
        # aiokafka lets the cancellation of its own heartbeat or fetch through when no broker answers
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        log.warning("kafka_client_cut_off", error="its end was cancelled by itself")
    except Exception as error:  # noqa: BLE001 - it raises what its inner tasks have died of, which can be anything
        log.warning("kafka_client_cut_off", error=f"{type(error).__name__}: {error}")
    finally:
        await cut_off(client)


async def _start(client: Any) -> None:
    with translated():
        try:
            await client.start()
        except BaseException as error:
            # a client that did not start still holds connections
            await end(client)
            if isinstance(error, AssertionError):  # aiokafka, where no broker has answered: no bootstrap was performed
                raise ConnectionError("Kafka: no broker has answered") from error
            raise


def _tls(settings: KafkaSettings) -> ssl.SSLContext | None:
    if settings.security not in ("SSL", "SASL_SSL"):
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.certificate_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
