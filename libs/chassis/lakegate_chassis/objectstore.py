"""Object stores by URL: a local folder, S3 and what speaks it, GCS, Azure. One way to open them for every service."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store, from_url
from pydantic import Field, FilePath, SecretStr, model_validator

from lakegate_chassis.settings import Section

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Credential

S3_SCHEMES = ("s3", "s3a", "s3n")
# A file of credentials is read again so often: a rotated Secret is in use before the old key is taken back.
CREDENTIALS_SECONDS = 60
# One request to the store, its body included; nothing here asks for more than PIECE_BYTES in one request.
REQUEST_SECONDS = 60
CONNECT_SECONDS = 3
RETRIES = 10
PIECE_BYTES = 8 << 20


class ObjectStoreSettings(Section):
    """How the warehouse's store is reached, where its URL is not a local folder.

    Without a key, the store's own chain of credentials decides: AWS_*, a web identity or the machine's role on S3;
    GOOGLE_* on GCS; AZURE_* on Azure.
    """

    endpoint: str | None = Field(default=None, description="address of a server that speaks S3; none: Amazon's own")
    region: str | None = Field(default=None, description="region of the bucket; none: AWS_REGION, else us-east-1")
    access_key_id: str | None = Field(default=None, description="S3 access key")
    secret_access_key: SecretStr | None = Field(default=None, description="its secret")
    session_token: SecretStr | None = Field(default=None, description="its session token, for temporary keys")
    credentials_file: FilePath | None = Field(
        default=None,
        description="file with them instead, as AWS writes it: [default], aws_access_key_id, aws_secret_access_key, "
        "aws_session_token; read again every minute",
    )
    path_style: bool = Field(default=True, description="bucket in the path; false: in the host name")
    retry_seconds: float = Field(
        default=20, gt=0, le=300, description="a store that fails or can't be reached is asked again for so long"
    )
    url: str | None = Field(
        default=None,
        description="where the warehouse's location truly is, if it is elsewhere: an s3:// location may stand for a "
        "folder of GCS or Azure, which clients then read through the gateway as S3",
    )
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="further options of obstore (GCS, Azure, encryption), as JSON"
    )

    @model_validator(mode="after")
    def _keys_are_whole(self) -> ObjectStoreSettings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("an access key needs its secret, and a secret its access key")
        if self.access_key_id is not None and self.credentials_file is not None:
            raise ValueError("name a key or a file with one, not both")
        return self


def is_local(location: str) -> bool:
    """Whether it is a folder of this machine and no object store."""
    return location.startswith(("file:", "/"))


def open_store(location: str, settings: ObjectStoreSettings) -> ObjectStore:
    """The store below `location`, a URL without a slash at its end; keys are relative to it. Opens no connection."""
    url = settings.url or location
    if is_local(url):
        return from_url(url, mkdir=True)
    parts = urlsplit(url)
    options: Any = {name: value.get_secret_value() for name, value in settings.options.items()}
    client: Any = {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "allow_http": options.pop("allow_http", "") == "true" or (settings.endpoint or "").startswith("http://"),
    }
    retries: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=settings.retry_seconds)}
    if parts.scheme not in S3_SCHEMES:
        options |= {"client_options": client, "retry_config": retries}
        found: ObjectStore = from_url(url, **options)
        return found
    options["virtual_hosted_style_request"] = not settings.path_style
    options |= {name: value for name, value in (("endpoint", settings.endpoint), ("region", settings.region)) if value}
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options=client,
        retry_config=retries,
        credential_provider=_credentials(settings),
        config=options,
    )


def _credentials(settings: ObjectStoreSettings) -> Callable[[], S3Credential] | None:
    """None leaves it to the store's own chain."""
    file = settings.credentials_file
    if file is not None:
        return lambda: read_credentials(file)
    if settings.access_key_id is None or settings.secret_access_key is None:
        return None
    token = settings.session_token
    found: S3Credential = {
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key.get_secret_value(),
        "token": token.get_secret_value() if token else None,
        "expires_at": None,
    }
    return lambda: found


def read_credentials(file: Path) -> S3Credential:
    """The section `default` of an AWS credentials file. Raises ValueError when it has no key."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(file)
    section = parser["default"] if parser.has_section("default") else {}
    try:
        return {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section["aws_secret_access_key"],
            "token": section.get("aws_session_token"),
            "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_SECONDS),
        }
    except KeyError as error:
        raise ValueError(f"{file} has no {error.args[0]} in its section [default]") from error


# What an operation may raise; of these FileNotFoundError (an OSError) says that there is no such key.
STORE_ERRORS = (obstore.exceptions.BaseError, OSError)
