"""`python -m lakegate_ingest`: serve the API and the management port."""

from __future__ import annotations

from lakegate_chassis.server import run
from lakegate_chassis.settings import load
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import IngestSettings


def main() -> None:
    settings = load(IngestSettings)
    run("ingest", settings, create_app(settings))


if __name__ == "__main__":
    main()
