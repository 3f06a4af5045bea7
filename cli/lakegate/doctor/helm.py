"""The operator's helm: its version, and what it makes of the chart and the values that are to be installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
_SECONDS = 120
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


class HelmFailed(Exception):
    """The message is helm's own."""


@dataclass(frozen=True)
class Chart:
    """What `helm install` would be told."""

    path: str
    release: str
    namespace: str
    values: Sequence[str] = ()
    sets: Sequence[str] = ()


def version() -> tuple[str, tuple[int, int]] | None:
    """As helm writes it, and as numbers; None where there is no helm. Raises HelmFailed."""
    if shutil.which("helm") is None:
        return None
    text = _run(["helm", "version", "--template", "{{.Version}}"]).strip()
    match = _VERSION.match(text)
    if match is None:
        raise HelmFailed(f"helm says of its version: {text[:100]}")
    return text, (int(match[1]), int(match[2]))


def render(chart: Chart, kubernetes: str, apis: Sequence[str]) -> list[Document]:
    """The manifests for a cluster of that version with these APIs, hooks and tests included. Raises HelmFailed."""
    import yaml

    words = ["helm", "template", chart.release, chart.path, "--namespace", chart.namespace]
    words += ["--kube-version", kubernetes]
    for name in apis:
        words += ["--api-versions", name]
    for path in chart.values:
        words += ["--values", path]
    for value in chart.sets:
        words += ["--set", value]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(_run(words), loader) if document]


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise HelmFailed(f"helm took more than {_SECONDS} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "found symbolic link" not in line]
        raise HelmFailed(" ".join(lines)[-1500:] or f"helm ended with exit code {done.returncode}")
    return done.stdout
