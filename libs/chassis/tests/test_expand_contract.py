"""A release that is rolled back has to find its tables: what takes something away is marked, and comes later.

docs/rollout.md says how.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MIGRATIONS = sorted([*ROOT.glob("services/*/migrations/versions/*.py"), *ROOT.glob("libs/*/migrations/versions/*.py")])
TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|CONSTRAINT|TYPE|VIEW|SCHEMA)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b"
    r"|\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b",
    re.IGNORECASE,
)
CONTRACTS = re.compile(r'^CONTRACTS = "(?P<revision>\w+)"', re.MULTILINE)
# no release had been installed beside another one when this was written
BEFORE_BLUE_GREEN = {"lineage/0002_runs_of_jobs"}


def name(path: Path) -> str:
    return f"{path.parents[2].name}/{path.stem}"


def faults(path: Path) -> list[str]:
    """What the way up takes away without being a contraction of an earlier revision."""
    text = path.read_text()
    taken = [found[0] for found in TAKES_AWAY.finditer(text.partition("def downgrade")[0])]
    marked = CONTRACTS.search(text)
    if marked is None:
        return taken
    earlier = [known.stem for known in path.parent.glob("*.py") if known.stem < path.stem]
    return [] if any(stem.startswith(marked["revision"]) for stem in earlier) else [f"no revision {marked['revision']}"]


@pytest.mark.parametrize("path", [path for path in MIGRATIONS if name(path) not in BEFORE_BLUE_GREEN], ids=name)
def test_a_migration_expands_unless_it_says_what_it_contracts(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def upgrade(): 'ALTER TABLE a ADD COLUMN b int'\ndef downgrade(): 'DROP TABLE a'", []),
        ("def upgrade(): 'ALTER TABLE a DROP  COLUMN b'", ["DROP  COLUMN"]),
        ("def upgrade(): 'alter table a rename to b'", ["rename"]),
        ("def upgrade(): 'ALTER TABLE a ALTER COLUMN b TYPE bigint'", ["ALTER COLUMN b TYPE"]),
        ('CONTRACTS = "0001"\ndef upgrade(): "DROP TABLE a"', []),
        ('CONTRACTS = "0009"\ndef upgrade(): "DROP TABLE a"', ["no revision 0009"]),
    ],
)
def test_what_takes_away_is_seen(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "0001_first.py").write_text("")
    path = tmp_path / "0002_second.py"
    path.write_text(text)
    assert faults(path) == found
