"""Everything the catalog reads from the environment, prefix CATALOG_."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_chassis.settings import BackendSettings, Section, settings_config


class WarehouseSettings(Section):
    """Where tables live: `<location>/<tenant>/<namespace levels>/<table>-<uuid>`."""

    name: str = Field(default="lakehouse", description="what Iceberg clients call it")
    location: str = Field(description="URL of a folder or bucket: file:///…, s3://…, gs://…, abfss://…")
    client_properties: dict[str, str] = Field(
        default_factory=dict,
        description="handed to every Iceberg client with a table; never secrets, as JSON",
    )

    @field_validator("location")
    @classmethod
    def _without_trailing_slash(cls, location: str) -> str:
        if "://" not in location:
            raise ValueError("must be a URL, as in file:///var/lib/lakegate/warehouse")
        return location.rstrip("/")


class MongoSettings(Section):
    """The catalog store on MongoDB 5.0 or newer, a replica set."""

    url: SecretStr | None = Field(
        default=None,
        description="mongodb:// or mongodb+srv:// URL; set: the catalog is stored there, else in PostgreSQL, which "
        "the event log needs in any case",
    )
    database: str = Field(default="lakegate_catalog", pattern=r"^[A-Za-z0-9_-]{1,38}$", description="its database")
    pool_max: int = Field(default=32, ge=1, le=500, description="connections to each server at most")
    timeout_seconds: float = Field(
        default=5, gt=0, le=25, description="one operation at most, with its retries and the wait for the majority"
    )

    @field_validator("url")
    @classmethod
    def _of_mongodb(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must begin with mongodb:// or mongodb+srv://")
        return url


class StoreSettings(Section):
    """Where changes and names are kept. Choose once: nothing is carried from one store to the other."""

    mongodb: MongoSettings = MongoSettings()


class MetadataSettings(Section):
    """Table metadata: the cache of it, which is never stale since files never change, and how long files stay."""

    delete_after_commit: bool = Field(
        default=True,
        description="delete a metadata file once it leaves the table's log of the last "
        "`write.metadata.previous-versions-max` (100); a table's own `write.metadata.delete-after-commit.enabled` "
        "goes before",
    )
    cache_bytes: int = Field(default=24_000_000, ge=0, description="what the cache may weigh, parsed forms included")


class SearchSettings(Section):
    """The search replica of this process."""

    dir: Path = Field(description="folder of the index; rebuilt from the store when missing or unreadable")
    heap_bytes: int = Field(
        default=15_000_000, ge=15_000_000, description="memory of the index writer; tantivy takes no less"
    )
    commit_interval_seconds: float = Field(
        default=0.1, gt=0, description="changes are collected for so long before they become visible"
    )
    wait_seconds: float = Field(
        default=5.0, gt=0, le=25, description="how long a search waits for its consistency token"
    )


class FileSettings(Section):
    """Keys for the files of one table, that Iceberg clients get with it where the warehouse's location is s3://."""

    endpoint: str | None = Field(
        default=None, description="the gateway's address as clients know it: their S3 endpoint; none: no keys"
    )
    key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="what the keys' secrets are derived from, the same in every replica; another one ends all keys",
    )
    slots: int = Field(
        default=64,
        ge=4,
        description="files that are read (1 slot, about 8 MB) or written (4 slots) through this process at once; "
        "more are answered 503 SlowDown, which S3 clients repeat",
    )
    lifetime_seconds: int = Field(
        default=3000, ge=60, le=3500, description="how long keys are good for; the gateway's token for them lives 3600"
    )


class CatalogSettings(BackendSettings):
    model_config = settings_config("CATALOG_")

    port: int = Field(default=8081, ge=0, le=65535, description="port of the API")
    management_port: int = Field(default=9081, ge=0, le=65535, description="port for /metrics and /loglevel")
    warehouse: WarehouseSettings
    objects: ObjectStoreSettings = ObjectStoreSettings()
    files: FileSettings = FileSettings()
    store: StoreSettings = StoreSettings()
    metadata: MetadataSettings = MetadataSettings()
    search: SearchSettings
