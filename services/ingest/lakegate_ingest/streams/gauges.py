"""Lag and freshness of streams as metrics: a bounded number of streams by name, the others together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition

from lakegate_ingest.metrics import STREAM_FRESHNESS, STREAM_LAG
from lakegate_ingest.streams.backlog import Backlog

OTHERS = "others"


class Gauges:
    """`named` streams have a label of their own, for as long as this process runs; first come, first served."""

    def __init__(self, *, named: int, every_seconds: float) -> None:
        self._named = named
        self._every = every_seconds
        self._names: set[str] = set()
        self._measured = float("-inf")

    def measure(self, backlogs: Iterable[Backlog], consumer: Any) -> None:
        """Lag by what the last fetches said of the ends of the partitions: nobody is asked for it."""
        now = time.monotonic()
        if now - self._measured < self._every:
            return
        self._measured = now
        assigned = consumer.assignment()  # in the middle of a rebalance it is behind, or ahead
        lags: dict[str, int] = {}
        ages: dict[str, float] = {}
        for backlog in backlogs:
            lag = 0
            for partition, committed in backlog.committed.items():
                place = TopicPartition(backlog.topic, partition)
                end = consumer.highwater(place) if place in assigned else None
                lag += max((end or committed) - committed, 0)
            label = self._label(backlog.topic)
            age = max(time.time() - backlog.oldest, 0.0) if backlog.oldest is not None else 0.0
            lags[label] = lags.get(label, 0) + lag
            ages[label] = max(ages.get(label, 0.0), age)
        for label, lag in lags.items():
            STREAM_LAG.labels(label).set(lag)
            STREAM_FRESHNESS.labels(label).set(ages[label])

    def forget(self, backlogs: Iterable[Backlog]) -> None:
        """These are another worker's to tell of now."""
        for label in {self._label(backlog.topic) for backlog in backlogs}:
            STREAM_LAG.labels(label).set(0)
            STREAM_FRESHNESS.labels(label).set(0)

    def _label(self, topic: str) -> str:
        if topic in self._names:
            return topic
        if len(self._names) < self._named:
            self._names.add(topic)
            return topic
        return OTHERS
