"""Uploads by presigned URL on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class UploadRequest(BaseModel):
    """What is going to be uploaded. A compressed file (gzip, zstd) is recognised by its first bytes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"file_name": "orders.csv", "content_type": "text/csv", "size_bytes": 81920}]},
    )

    file_name: str = Field(min_length=1, max_length=1024, description="for the receipt and the lineage")
    content_type: str = Field(default="", max_length=255, pattern=r"^[\x20-\x7e]*$", description="as of a load's body")
    size_bytes: int | None = Field(default=None, ge=1, description="when known: a load of another size is refused")


class Upload(BaseModel):
    """Send the file with `method` and `headers` to `url`, straight to the object store; then load it by its id."""

    upload_id: UUID
    method: Literal["PUT"] = "PUT"
    url: str = Field(description="a credential of its own: whoever has it may upload this one file")
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="to be sent with it, or the store refuses: none on S3 and GCS",
        examples=[{"x-ms-blob-type": "BlockBlob"}],
    )
    expires_at: datetime = Field(description="when the URL ends")
    kept_until: datetime = Field(description="when a file that nobody loaded is deleted")
    max_bytes: int = Field(description="a larger file is not loaded")
    load: str = Field(examples=["/v1/loads/{namespace}/{table}?source=018f…"], description="how it is loaded then")


class DownloadedFile(BaseModel):
    """A file to be fetched straight from the object store, with GET and without any header."""

    url: str
    rows: int


class DownloadPage(BaseModel):
    """All files of one load's rejected rows: Parquet, with the columns that the rejects endpoint gives."""

    items: list[DownloadedFile]
    expires_at: datetime
