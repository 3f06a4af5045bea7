"""A server that speaks S3: LAKEGATE_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY (and _REGION, _BUCKET), else
versitygw by Go, which checks signatures as S3 does. Docker is not asked: no image was tried here."""

from __future__ import annotations

import http.client
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from lakegate.embedded.ports import free_ports
from servers import golang
from servers.finding import Found, Source
from servers.processes import Control, Missing, ServerProcess

_PREFIX = "LAKEGATE_TEST_S3_"
VERSION = "v1.8.0"
_MODULE = "github.com/versity/versitygw/cmd/versitygw"
_BUCKET = "lakegate-test"
_REGION = "us-east-1"


@dataclass(frozen=True)
class S3:
    """A test makes what it needs under `bucket`, which exists. `control` as for Kafka."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    control: Control | None
    checks_signatures: ClassVar[bool] = True

    def location(self, folder: str) -> str:
        return f"s3://{self.bucket}/{folder}"

    def objects(self) -> dict[str, object]:
        """The fields of ObjectStoreSettings that reach it."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }

    def settings(self, service: str) -> dict[str, str]:
        """The environment that lets a service ("CATALOG") reach it."""
        return {f"{service}_OBJECTS__{name.upper()}": str(value) for name, value in self.objects().items()}


def from_address(_: Path) -> Found | None:
    endpoint = os.environ.get(f"{_PREFIX}ENDPOINT")
    if not endpoint:
        raise Missing(f"{_PREFIX}ENDPOINT is not set")
    server = S3(
        endpoint=endpoint,
        access_key=os.environ[f"{_PREFIX}ACCESS_KEY"],
        secret_key=os.environ[f"{_PREFIX}SECRET_KEY"],
        region=os.environ.get(f"{_PREFIX}REGION", _REGION),
        bucket=os.environ.get(f"{_PREFIX}BUCKET", _BUCKET),
        control=None,
    )
    return Found(server, "address", endpoint)


def from_packages(folder: Path) -> Found | None:
    program = golang.program(_MODULE, VERSION)
    data = folder / "data"
    # a bucket is a folder; made beforehand, none has to be made through a client
    (data / _BUCKET).mkdir(parents=True)
    (folder / "attributes").mkdir()
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    access_key, secret_key = f"root{secrets.token_hex(8)}", secrets.token_urlsafe(24)
    process = ServerProcess(
        [program, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", folder / "attributes", data],
        folder=folder,
        ready=lambda: _answers(endpoint),
        environment={"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key},
    )
    process.start()
    server = S3(endpoint, access_key, secret_key, _REGION, _BUCKET, process)
    return Found(server, "packages", f"versitygw {VERSION} by Go", process.stop)


SOURCES: dict[str, Source] = {"address": from_address, "packages": from_packages}


def is_at_hand() -> bool:
    """Whether it can be had without a build of minutes."""
    return bool(os.environ.get(f"{_PREFIX}ENDPOINT")) or golang.is_built(_MODULE, VERSION)


def build() -> None:
    """What `from_packages` needs, ahead of time. Raises Missing."""
    golang.program(_MODULE, VERSION)


def _answers(endpoint: str) -> bool:
    """Any answer will do: an unsigned request is refused, by a server that works."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
