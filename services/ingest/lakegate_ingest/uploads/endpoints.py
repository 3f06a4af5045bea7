"""Uploads over HTTP: URLs of the object store for what should not pass through here."""

from __future__ import annotations

from fastapi import APIRouter

from lakegate_chassis.auth import require
from lakegate_contracts.identity import Scope
from lakegate_ingest.deps import Caller, R
from lakegate_ingest.uploads.schemas import Upload, UploadRequest

router = APIRouter()


@router.post("/v1/uploads/presign", status_code=201)
async def presign_upload(request: UploadRequest, principal: Caller, resources: R) -> Upload:
    """A URL to PUT one file to, for a bounded time; `POST /v1/loads/{namespace}/{table}?source=…` loads it then."""
    require(principal, Scope.LOADS_WRITE)
    return await resources.uploads.presign(principal, request)
