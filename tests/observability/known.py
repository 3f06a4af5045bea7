"""Which metrics there are, which a text names, and where the tools are that judge rules."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lakegate.rollout.metrics import REGISTRY as ROLLOUT

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "lakegate-base" / "files"
RULES = sorted((CHART / "rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"


def series() -> set[str]:
    """Every series that a process of Lakegate exposes: docs/metrics.md, and the rollout's driver."""
    rows = re.findall(r"^\| `(lakegate_\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.M)
    rows += [(metric.name + "_total" * (metric.type == "counter"), metric.type) for metric in ROLLOUT.collect()]
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, kind in rows for suffix in suffixes.get(kind, ("",))}


def recorded() -> set[str]:
    """What the recording rules make of them."""
    return {name for path in RULES for name in re.findall(r"- record: (\S+)", path.read_text())}


def named(text: str) -> set[str]:
    """Metrics and recorded series of ours that a text names."""
    found = set(re.findall(r"\blakegate(?:_[a-z0-9]+)+\b|\blakegate:[a-z0-9_:]+", text))
    # labels that the ServiceMonitor gives, and a part of the names of products
    return found - {"lakegate_io_colour"}


def tool(name: str) -> str:
    """Where a program of Debian's `prometheus` package is; without it the test is skipped and says so."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found
