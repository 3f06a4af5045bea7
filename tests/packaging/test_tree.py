"""What is in the repository: nothing that a run of tests or tools leaves behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_no_file_is_tracked_that_git_is_told_to_ignore() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this tree is no git checkout")
    assert listed.stdout.splitlines() == []
