"""What ingest reads from the environment: prefix INGEST_, nesting __."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lakegate_chassis.settings import BackendSettings, Section, settings_config

MIB = 1 << 20
GIB = 1 << 30


class SpoolSettings(Section):
    """Where bodies wait until they are committed. `quota_bytes` bounds the sum of all folders of this process."""

    dir: Path = Path(".lakegate/spool")
    quota_bytes: int = Field(default=64 * GIB, gt=0)


class BodySettings(Section):
    """Limits of one upload; sizes in bytes, as sent (`max_bytes`) and decompressed (`max_decoded_bytes`)."""

    max_bytes: int = Field(default=16 * GIB, gt=0)
    max_decoded_bytes: int = Field(default=32 * GIB, gt=0)
    # Text compresses 5 to 30 times, a log of equal lines some 200 times, a bomb 1,000 times and more.
    max_ratio: int = Field(default=500, gt=1)
    max_files: int = Field(default=100, gt=0)
    max_name_chars: int = Field(default=255, gt=0)
    min_bytes_per_second: int = Field(default=512, ge=0)
    rate_window_seconds: float = Field(default=15.0, gt=0)
    # After a refusal in mid-body this much is read and dropped, so that the client gets to see the answer.
    discard_bytes: int = Field(default=16 * MIB, ge=0)
    discard_seconds: float = Field(default=5.0, ge=0)


class JobSettings(Section):
    """Loads as jobs: `workers` engine threads at once, `queue` loads accepted (uploading and waiting) beyond them."""

    workers: int = Field(default=1, ge=1, le=16)
    queue: int = Field(default=64, ge=1)
    max_wait_seconds: int = Field(default=30, ge=0, le=30)
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    lease_seconds: float = Field(default=30.0, gt=0)
    sweep_seconds: float = Field(default=15.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    sse_heartbeat_seconds: float = Field(default=10.0, gt=0)
    sse_max_seconds: float = Field(default=600.0, gt=0)
    sse_max_clients: int = Field(default=256, ge=1)
    idempotency_hours: int = Field(default=24, ge=1)


class EngineSettings(Section):
    """Bounds of the reading engine; the memory limit is DuckDB's own, the rest of the process comes on top."""

    memory_bytes: int = Field(default=180 * MIB, ge=64 * MIB)
    threads: int = Field(default=2, ge=1)
    # Reading while receiving pays for large bodies that come fast; a slow one would hold an engine slot for nothing.
    early_bytes: int = Field(default=24 * MIB, ge=0)
    early_bytes_per_second: int = Field(default=20 * MIB, ge=0)


class CommitSettings(Section):
    """Bounds of one commit against the catalog, and when a file that nothing names counts as an orphan."""

    timeout_seconds: float = Field(default=20.0, gt=0)
    attempts: int = Field(default=12, ge=1)
    settle_seconds: float = Field(default=60.0, gt=0)
    backoff_seconds: float = Field(default=0.05, gt=0)
    orphan_age_seconds: float = Field(default=3600.0, ge=0)


class QuarantineSettings(Section):
    """Rejected rows go to `<location>/<tenant>/_quarantine/<load id>/`; the default is the warehouse's own folder."""

    location: str = "file:///var/lib/lakegate/warehouse"


class RowsSettings(Section):
    """Bounds of a streamed download of rows."""

    max_streams: int = Field(default=8, ge=1)
    batch_rows: int = Field(default=8192, ge=1)
    queue_batches: int = Field(default=4, ge=1)


class IngestSettings(BackendSettings):
    """Settings of the ingest service."""

    model_config = settings_config("INGEST_")

    port: int = 8082
    management_port: int = 9082
    catalog_url: str = "http://127.0.0.1:8081"
    token_exchange_url: str = "http://127.0.0.1:9080/internal/token"
    spool: SpoolSettings = SpoolSettings()
    body: BodySettings = BodySettings()
    job: JobSettings = JobSettings()
    engine: EngineSettings = EngineSettings()
    commit: CommitSettings = CommitSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    rows: RowsSettings = RowsSettings()
