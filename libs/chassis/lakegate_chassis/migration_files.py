"""What migrations a package has on disk, found without importing the package or Alembic."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

CHASSIS = "lakegate_chassis"


class MigrationFailed(Exception):
    """The message names the package, the revision and what PostgreSQL said."""


@dataclass(frozen=True)
class Migrations:
    """Where a package's version files are and what they belong to."""

    package: str
    schema: str
    folder: Path | None

    @property
    def owner(self) -> str:
        return f"lakegate_{self.schema}_owner"

    @property
    def app(self) -> str:
        return f"lakegate_{self.schema}"


def find(package: str) -> Migrations:
    """Look a package's migrations up without importing it. Raises MigrationFailed for an unknown package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MigrationFailed(f"{package}: no such package is installed")
    schema = "eventlog" if package == CHASSIS else package.removeprefix("lakegate_")
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = (root / "migrations", root.parent / "migrations")
    folder = next((folder for folder in folders if any((folder / "versions").glob("*.py"))), None)
    return Migrations(package, schema, folder)


def read_graph(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """All revisions and the heads among them, read from the files' assignments without running them."""
    revisions: set[str] = set()
    parents: set[str] = set()
    for file in (folder / "versions").glob("*.py"):
        for statement in ast.parse(file.read_text()).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    pass
                case _:
                    continue
            if name == "revision":
                revisions.add(ast.literal_eval(value))
            elif name == "down_revision":
                parent = ast.literal_eval(value)
                parents.update([parent] if isinstance(parent, str) else parent or ())
    return frozenset(revisions), frozenset(revisions - parents)
