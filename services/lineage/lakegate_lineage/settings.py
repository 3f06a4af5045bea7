"""What the lineage service reads from its environment, prefix LINEAGE_."""

from __future__ import annotations

from pydantic import Field

from lakegate_chassis.settings import BackendSettings, Section, settings_config


class EventSettings(Section):
    """Limits of what is taken in, and how it is gathered into transactions."""

    max_event_bytes: int = Field(
        default=8 << 20, ge=1024, description="one event, decompressed; Spark's column lineage reaches megabytes"
    )
    max_batch_bytes: int = Field(default=32 << 20, ge=1024, description="one batch, decompressed")
    max_batch_events: int = Field(default=1000, ge=1, description="events in one batch")
    flush_events: int = Field(default=500, ge=1, description="events that are written in one transaction")
    queue_events: int = Field(
        default=5000, ge=1, description="events waiting to be written; beyond that, requests are answered 503"
    )
    queue_bytes: int = Field(default=64 << 20, ge=1024, description="the same, in bytes")


class RetentionSettings(Section):
    """How long what came in is kept; the graph, the runs and the facets that were folded from it stay."""

    event_days: float = Field(
        default=90, gt=0, le=36_500, description="events as they were sent, which a run's page is told from"
    )
    event_log_days: float = Field(
        default=7, gt=0, le=36_500, description="events of the event log, once every service is past them"
    )


class LineageSettings(BackendSettings):
    model_config = settings_config("LINEAGE_")

    port: int = Field(default=8083, ge=0, le=65535, description="port of the API")
    management_port: int = Field(default=9083, ge=0, le=65535, description="port for /metrics and /loglevel")
    operator_tenant: str = Field(
        default="default",
        min_length=1,
        description="tenant of who runs the installation, as GATEWAY_BOOTSTRAP__TENANT: only its admins may rewind "
        "groups of the event log, which serve all tenants, and see dead letters that are of no tenant",
    )
    events: EventSettings = EventSettings()
    retention: RetentionSettings = RetentionSettings()
