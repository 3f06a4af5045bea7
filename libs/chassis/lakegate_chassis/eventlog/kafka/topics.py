"""Topics are made as the contracts declare them; a topic that exists is left as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.errors import for_code

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.logs import log
from lakegate_chassis.settings import KafkaSettings
from lakegate_contracts.events import STREAM_PREFIX, STREAM_REJECTS, TOPICS, Topic

DEAD_LETTERS = ".dlq"
_DEAD_LETTER_DAYS = 30
_RETENTION_DAYS = 7
_DAY_MS = 24 * 3600 * 1000
_EXISTS_ALREADY = 36
# Invalid or colliding name, not allowed (topic, cluster), number of partitions, configuration, policy: asking again
# gets the same answer.
_FINAL = {17, 29, 31, 37, 40, 44}
# A record's headers and framing come on top of the event.
_OVERHEAD_BYTES = 64 * 1024


class TopicRefused(ConnectionError):
    """The brokers answer, and won't have this topic until somebody changes something there."""


class Topics:
    """Knows which topics exist, so that the cluster is asked once for each."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: set[str] = set()

    async def ensure(self, names: Iterable[str]) -> None:
        """Make what is missing. Raises TopicRefused, ConnectionError."""
        wanted = set(names) - self._known
        if not wanted:
            return
        async with self._connections.admin() as admin:
            missing = wanted - set(await admin.list_topics())
            if missing:
                await self._make(admin, sorted(missing))
        self._known |= wanted

    def known(self, names: Iterable[str]) -> bool:
        """Whether all of them were there when they were last asked for."""
        return self._known.issuperset(names)

    def forget(self, names: Iterable[str]) -> None:
        """Ask for these again: something failed, and one that was deleted has to be made anew."""
        self._known -= set(names)

    async def _make(self, admin: Any, names: list[str]) -> None:
        answer = await admin.create_topics([new_topic(name, self._connections.settings) for name in names])
        for name, code, *message in answer.topic_errors:
            if code not in (0, _EXISTS_ALREADY):
                reason = " ".join(part for part in message if part) or for_code(code).__name__
                kind = TopicRefused if code in _FINAL else ConnectionError
                raise kind(f"Kafka: topic {name} can't be made: {reason} (error {code})")
        log.info("topics_made", topics=names)


def new_topic(name: str, settings: KafkaSettings) -> NewTopic:
    """What the contracts say of the topic, or the defaults."""
    declared = TOPICS.get(name) or Topic(name, "", settings.partitions, _RETENTION_DAYS)
    days = declared.retention_days
    if name.endswith(STREAM_REJECTS if name.startswith(STREAM_PREFIX) else DEAD_LETTERS):
        declared, days = Topic(name, "", 1, _DEAD_LETTER_DAYS), _DEAD_LETTER_DAYS
    configuration = {"max.message.bytes": str(settings.max_event_bytes + _OVERHEAD_BYTES)}
    if days is None:
        configuration |= {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_RETENTION_DAYS * _DAY_MS)}
    else:
        configuration |= {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}
    if settings.replication >= 3:
        # acks=all then means two disks, and one broker may be away
        configuration["min.insync.replicas"] = "2"
    return NewTopic(name, declared.partitions, settings.replication, topic_configs=configuration)
