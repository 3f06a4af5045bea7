"""python -m lakegate_catalog"""

from __future__ import annotations

from lakegate_catalog.app import create_app
from lakegate_catalog.settings import CatalogSettings
from lakegate_chassis.server import run
from lakegate_chassis.settings import load

if __name__ == "__main__":
    settings = load(CatalogSettings)
    run("catalog", settings, create_app(settings))
