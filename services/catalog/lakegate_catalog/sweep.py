"""`python -m lakegate_catalog.sweep`: delete the parts of uploads that nobody completed, once."""

from __future__ import annotations

from lakegate_catalog.files.grants import Grants
from lakegate_catalog.files.objects import Objects
from lakegate_catalog.files.uploads import Uploads
from lakegate_catalog.iceberg.metadata import Warehouse
from lakegate_catalog.settings import CatalogSettings
from lakegate_chassis.once import run_once, sweep_once
from lakegate_chassis.settings import load


async def sweep(settings: CatalogSettings) -> bool:
    """Engines send files through the gateway only where they get grants for it: else there is nothing to sweep."""
    warehouse = Warehouse(settings.warehouse, settings.objects, settings.metadata.cache_bytes)
    if not Grants(settings.files, warehouse.root).enabled:
        return True
    return await sweep_once({"upload-parts": Uploads(Objects(warehouse.store)).sweep_once}, settings.consumers)


def main() -> None:
    settings = load(CatalogSettings)
    run_once("catalog", settings, lambda: sweep(settings))


if __name__ == "__main__":
    main()
