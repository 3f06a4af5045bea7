"""A simulated cluster, and its time."""

from __future__ import annotations

import pytest
from kube.simulation import Clock, Simulation


@pytest.fixture
def cluster() -> Simulation:
    return Simulation()


@pytest.fixture
def clock(cluster: Simulation) -> Clock:
    return Clock(cluster)
