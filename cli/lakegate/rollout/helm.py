"""Installing a colour's release with the operator's own helm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from lakegate.rollout.errors import NotPossible

_SECONDS = 900


def command(
    chart: str,
    namespace: str,
    colour: str,
    *,
    release: str,
    image_tag: str | None,
    values: Sequence[str],
    context: str | None,
) -> list[str]:
    """`helm upgrade --install` of one colour. It doesn't wait for pods: the driver does, and knows when to give up."""
    words = [
        "helm",
        "upgrade",
        "--install",
        release,
        chart,
        "--namespace",
        namespace,
        "--set",
        f"global.colour={colour}",
        "--set",
        "base.enabled=false",
    ]
    if context:
        words += ["--kube-context", context]
    for path in values:
        words += ["--values", path]
    if image_tag:
        words += ["--set-string", f"global.image.tag={image_tag}"]
    return [*words, "--timeout", f"{_SECONDS}s"]


def install(words: Sequence[str]) -> None:
    """Run it; what it says goes to the terminal. Raises NotPossible."""
    if shutil.which(words[0]) is None:
        raise NotPossible("helm is not on PATH. Install the release yourself, then start without a chart.")
    try:
        done = subprocess.run(words, check=False, timeout=_SECONDS + 60)
    except subprocess.TimeoutExpired as error:
        raise NotPossible(f"helm took more than {error.timeout:.0f} s") from error
    if done.returncode:
        raise NotPossible(f"helm failed with exit code {done.returncode}: {' '.join(words)}")
