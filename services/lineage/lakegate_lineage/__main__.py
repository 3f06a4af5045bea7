"""`python -m lakegate_lineage`: serve until SIGTERM."""

from __future__ import annotations

from lakegate_chassis.server import run
from lakegate_chassis.settings import load
from lakegate_lineage.app import create_app
from lakegate_lineage.settings import LineageSettings


def main() -> None:
    settings = load(LineageSettings)
    run("lineage", settings, create_app(settings))


if __name__ == "__main__":
    main()
