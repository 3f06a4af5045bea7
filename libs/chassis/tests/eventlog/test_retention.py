from __future__ import annotations

from datetime import timedelta

import pytest

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Retention
from lakegate_chassis.testing import eventually


@pytest.mark.parametrize("adapter", ["postgres"], indirect=True)
async def test_retention_prunes_by_itself(log, adapter, topic) -> None:
    await topic.publish(1)
    await adapter.age(topic.name, days=8)
    await topic.publish(2)
    await log.head()
    await adapter.have_no_groups()
    background = Background()
    background.start("retention", Retention(log, keep=timedelta(days=7)).run)

    async def pruned() -> bool:
        return len(await topic.read()) == 1

    await eventually(pruned)
    await background.stop()


@pytest.mark.parametrize("adapter", ["postgres"], indirect=True)
async def test_positions_go_on_after_everything_was_pruned(log, adapter, topic) -> None:
    await topic.publish(1)
    before = (await topic.read())[0].position
    await adapter.age(topic.name, days=8)
    await adapter.have_no_groups()
    await Retention(log, keep=timedelta(days=7)).prune()
    await topic.publish(2)
    assert (await topic.read())[0].position > before
