"""Google Cloud Storage: LAKEGATE_TEST_GCS_BUCKET and _KEY (a service account's JSON file), else a stand-in: Go's
fake-gcs-server, and in front of it what it lacks of the XML API (gcs_xml.py). Docker is not asked: it has the same."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lakegate.embedded.ports import free_ports
from servers import golang
from servers.finding import Found, Source
from servers.processes import Control, Missing, ServerProcess, listens

_PREFIX = "LAKEGATE_TEST_GCS_"
VERSION = "v1.56.1"
_MODULE = "github.com/fsouza/fake-gcs-server"
_BUCKET = "lakegate-test"


@dataclass(frozen=True)
class GCS:
    """A test makes what it needs in the bucket, which exists. `control` is the server's that holds the objects."""

    bucket: str
    key: str
    control: Control | None
    checks_signatures: ClassVar[bool] = True

    def location(self, folder: str) -> str:
        return f"gs://{self.bucket}/{folder}"

    def objects(self) -> dict[str, object]:
        """The fields of ObjectStoreSettings that reach it."""
        options = {"service_account_key": self.key}
        if "gcs_base_url" in json.loads(self.key):
            options["allow_http"] = "true"
        return {"options": options}

    def settings(self, service: str) -> dict[str, str]:
        """The environment that lets a service ("CATALOG") reach it."""
        return {f"{service}_OBJECTS__OPTIONS": json.dumps(self.objects()["options"])}


def from_address(_: Path) -> Found | None:
    bucket = os.environ.get(f"{_PREFIX}BUCKET")
    if not bucket:
        raise Missing(f"{_PREFIX}BUCKET is not set")
    key = Path(os.environ[f"{_PREFIX}KEY"]).read_text()
    return Found(GCS(bucket, key, None), "address", f"gs://{bucket}")


def from_packages(folder: Path) -> Found | None:
    program = golang.program(_MODULE, VERSION)
    port, front = free_ports(2)
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    upstream = f"http://127.0.0.1:{port}"
    process = ServerProcess(
        [program, *options, "-public-host", f"127.0.0.1:{port}"], folder=folder, ready=lambda: listens(port)
    )
    process.start()
    httpx.post(f"{upstream}/storage/v1/b", json={"name": _BUCKET}, trust_env=False, timeout=30).raise_for_status()
    private = rsa.generate_private_key(65537, 2048)
    public = folder / "account.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "front").mkdir()
    beside = ServerProcess(
        [sys.executable, "-m", "servers.gcs_xml", str(front), upstream, public],
        folder=folder / "front",
        ready=lambda: listens(front),
        environment={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    key = {
        "type": "service_account",
        "gcs_base_url": f"http://127.0.0.1:{front}",
        "client_email": "test@lakegate.example.org",
        "private_key_id": "test",
        "private_key": private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    }

    def stop() -> None:
        beside.stop()
        process.stop()

    try:
        beside.start()
    except Missing:
        stop()
        raise
    note = f"STAND-IN, no GCS (its writes are translated): fake-gcs-server {VERSION} by Go"
    return Found(GCS(_BUCKET, json.dumps(key), process), "packages", note, stop)


SOURCES: dict[str, Source] = {"address": from_address, "packages": from_packages}


def is_at_hand() -> bool:
    """Whether it can be had without a build of minutes."""
    return bool(os.environ.get(f"{_PREFIX}BUCKET")) or golang.is_built(_MODULE, VERSION)


def build() -> None:
    """What `from_packages` needs, ahead of time. Raises Missing."""
    golang.program(_MODULE, VERSION)
