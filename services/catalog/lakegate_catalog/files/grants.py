"""Keys that are good for the files of one table, for an hour. Nothing of them is stored.

The access key says what it is for. Its secret is derived from it, from the token that the gateway signed for the
caller, and from a key that only the catalog has: whoever signs with it was handed it by us, for exactly this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Any

import orjson

from lakegate_catalog.files.dialect import S3Error, denied
from lakegate_catalog.settings import FileSettings

PREFIX = "LG"
# No client asks for a region here, and all of them need one to sign.
REGION = "us-east-1"


@dataclass(frozen=True)
class Grant:
    """`folder` is the table's, relative to the warehouse: `tenant/namespace/table-uuid`. `expires` in Unix seconds."""

    folder: str
    may_write: bool
    expires: int

    @property
    def tenant(self) -> str:
        return self.folder.partition("/")[0]


class Grants:
    """Makes keys, and reads them back. `root` is the warehouse's location, as clients know it."""

    def __init__(self, settings: FileSettings, root: str) -> None:
        self._settings = settings
        self._root = root

    @property
    def enabled(self) -> bool:
        """Only S3 locations: for any other an engine would not come to an S3 endpoint."""
        settings = self._settings
        return settings.key is not None and settings.endpoint is not None and self._root.startswith("s3://")

    def config(self, location: str, token: str, *, may_write: bool) -> dict[str, str]:
        """What lets an Iceberg client read the table at `location` here (REST specification, LoadTableResult)."""
        lifetime = self._settings.lifetime_seconds
        expires = int(time.time()) + lifetime
        access_key = _encode(Grant(location.removeprefix(f"{self._root}/"), may_write, expires))
        return {
            "s3.endpoint": self._settings.endpoint or "",
            "s3.region": REGION,
            "client.region": REGION,
            "s3.path-style-access": "true",
            "s3.access-key-id": access_key,
            "s3.secret-access-key": self.secret(access_key, token),
            "s3.session-token": token,
            "s3.session-token-expires-at-ms": str(expires * 1000),
        }

    def secret(self, access_key: str, token: str) -> str:
        assert self._settings.key is not None
        message = access_key.encode() + b"\n" + hashlib.sha256(token.encode()).digest()
        return hmac.new(self._settings.key.get_secret_value().encode(), message, hashlib.sha256).hexdigest()

    def read(self, access_key: str) -> Grant:
        """What a key is for; trust it only once a signature made with its secret has been verified. Raises S3Error."""
        try:
            encoded = access_key.removeprefix(PREFIX)
            folder, may_write, expires = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            grant = Grant(str(folder), bool(may_write), int(expires))
        except (ValueError, TypeError, binascii.Error) as error:
            raise S3Error(403, "InvalidAccessKeyId", "The access key is none that was handed out here.") from error
        if grant.expires < time.time():
            raise S3Error(403, "ExpiredToken", "The keys have expired. Load the table again for new ones.")
        return grant


def _encode(grant: Grant) -> str:
    content = orjson.dumps([grant.folder, grant.may_write, grant.expires])
    return PREFIX + base64.urlsafe_b64encode(content).decode().rstrip("=")


def check_key(grant: Grant, key: str, *, write: bool) -> None:
    """Raises S3Error unless the file is the table's, and the caller may do that to it."""
    if any(part in ("", ".", "..") for part in key.split("/")) or not key.startswith(f"{grant.folder}/"):
        raise denied("These keys are for the files of another table.")
    if write and not grant.may_write:
        raise denied("These keys only read: writing needs the scope datasets:write.")
    if write and key.endswith(".metadata.json"):
        raise denied("Table metadata is written by the catalog alone: commit through it.")


def storage_credentials(location: str, config: dict[str, str]) -> list[dict[str, Any]]:
    """The same for clients that choose credentials by the longest prefix (REST specification, StorageCredential)."""
    return [{"prefix": location, "config": config}]
