"""What can be done to a consumer group: a member that hardly runs, and members that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from chaos.ledger import Ledger, now
from chaos.suite import Stage

GROUP, TOPIC = "lineage", "lakegate.lineage"
SECONDS = 20.0
_ASLEEP_SECONDS, _AWAKE_SECONDS = 0.95, 0.05


async def slow_consumer(stage: Stage, _: Ledger) -> float:
    """The lineage service gets a twentieth of the time, and once stands still for longer than its session."""
    process = stage.process("lineage")
    end = now() + SECONDS
    try:
        while now() < end:
            process.suspend()
            await asyncio.sleep(_ASLEEP_SECONDS)
            process.resume()
            await asyncio.sleep(_AWAKE_SECONDS)
        process.suspend()
        # LINEAGE_KAFKA__SESSION_SECONDS is 10: the group goes on without it, and it comes back as a stranger
        await asyncio.sleep(14)
    finally:
        process.resume()
    return now()


async def storm(stage: Stage, _: Ledger) -> float:
    """Three strangers join the group and leave it again, at random; they take partitions and handle nothing."""
    end = now() + SECONDS

    async def stranger() -> None:
        while now() < end:
            consumer = AIOKafkaConsumer(
                TOPIC,
                bootstrap_servers=stage.kafka.bootstrap,
                group_id=GROUP,
                enable_auto_commit=False,
                partition_assignment_strategy=(StickyPartitionAssignor,),
            )
            with contextlib.suppress(KafkaError):
                await consumer.start()
                await asyncio.sleep(random.uniform(0.1, 1.5))
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    async with asyncio.TaskGroup() as strangers:
        for _number in range(3):
            strangers.create_task(stranger())
    return now()
