"""Blobs of Azure: LAKEGATE_TEST_AZURE_ACCOUNT, _KEY and _CONTAINER (and _ENDPOINT, where it is not Azure's own), else
Azurite by npm, Microsoft's own emulator, which checks signatures as Azure does. Docker is not asked: no image was
tried here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import ClassVar

from lakegate.embedded.ports import free_ports
from servers import npm
from servers.finding import Found, Source
from servers.processes import Control, Missing, ServerProcess, listens

_PREFIX = "LAKEGATE_TEST_AZURE_"
VERSION = "3.35.0"
_PACKAGE = "azurite"
_CONTAINER = "lakegate-test"
_API = "2023-11-03"


@dataclass(frozen=True)
class Azure:
    """A test makes what it needs in the container, which exists. `control` as for Kafka."""

    account: str
    key: str
    container: str
    endpoint: str | None
    control: Control | None
    checks_signatures: ClassVar[bool] = True

    def location(self, folder: str) -> str:
        return f"abfss://{self.container}@{self.account}.dfs.core.windows.net/{folder}"

    def objects(self) -> dict[str, object]:
        """The fields of ObjectStoreSettings that reach it."""
        options = {"account_key": self.key}
        if self.endpoint is not None:
            options |= {"endpoint": self.endpoint, "allow_http": "true"}
        return {"options": options}

    def settings(self, service: str) -> dict[str, str]:
        """The environment that lets a service ("CATALOG") reach it."""
        return {f"{service}_OBJECTS__OPTIONS": json.dumps(self.objects()["options"])}


def from_address(_: Path) -> Found | None:
    account = os.environ.get(f"{_PREFIX}ACCOUNT")
    if not account:
        raise Missing(f"{_PREFIX}ACCOUNT is not set")
    key, container = os.environ[f"{_PREFIX}KEY"], os.environ.get(f"{_PREFIX}CONTAINER", _CONTAINER)
    endpoint = os.environ.get(f"{_PREFIX}ENDPOINT")
    return Found(Azure(account, key, container, endpoint, None), "address", endpoint or account)


def from_packages(folder: Path) -> Found | None:
    node, program = npm.node(), npm.package(_PACKAGE, VERSION)
    data = folder / "data"
    data.mkdir()
    (port,) = free_ports(1)
    account, key = f"test{secrets.token_hex(6)}", base64.b64encode(secrets.token_bytes(48)).decode()
    # the newest version of the API that a client may name is older than the newest of some clients
    options = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    process = ServerProcess(
        [node, program / "dist/src/blob/main.js", "--blobHost", "127.0.0.1", "--blobPort", str(port),
         "--location", data, *options],
        folder=folder,
        ready=lambda: listens(port),
        environment={"AZURITE_ACCOUNTS": f"{account}:{key}"},
    )  # fmt: skip
    process.start()
    server = Azure(account, key, _CONTAINER, f"http://127.0.0.1:{port}/{account}", process)
    try:
        _make_container(server, port)
    except OSError as error:
        process.stop()
        raise Missing(f"Azurite made no container: {error}") from error
    return Found(server, "packages", f"azurite {VERSION} by npm", process.stop)


SOURCES: dict[str, Source] = {"address": from_address, "packages": from_packages}


def is_at_hand() -> bool:
    """Whether it can be had without a download."""
    return bool(os.environ.get(f"{_PREFIX}ACCOUNT")) or npm.is_installed(_PACKAGE, VERSION)


def build() -> None:
    """What `from_packages` needs, ahead of time. Raises Missing."""
    npm.package(_PACKAGE, VERSION)


def _make_container(server: Azure, port: int) -> None:
    """Signed by hand (Shared Key), since obstore makes no containers. Raises OSError."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API}
    named = "\n".join(f"{name}:{value}" for name, value in headers.items())
    # the method, eleven standard headers that are empty, ours, and the resource: its path begins with the account here
    resource = f"/{server.account}/{server.account}/{server.container}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"{named}\n{resource}"
    digest = hmac.digest(base64.b64decode(server.key), text.encode(), hashlib.sha256)
    headers["authorization"] = f"SharedKey {server.account}:{base64.b64encode(digest).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("PUT", f"/{server.account}/{server.container}?restype=container", headers=headers)
        answer = connection.getresponse()
        if answer.status != 201:
            raise OSError(f"{answer.status}: {answer.read()[:300]!r}")
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
