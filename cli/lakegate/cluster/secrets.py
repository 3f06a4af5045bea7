"""The Secrets that the charts refer to, made from one folder that keeps what was made."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from lakegate.embedded.database import is_postgres_url
from lakegate.embedded.ports import SERVICES
from lakegate.embedded.secret_files import secret
from lakegate.failures import CommandFailed

ADMIN_KEY, READER_KEY = "admin.key", "reader.key"
SIGNING_KEYS = "lakegate-signing-keys"
# A second rotation in this time would put the first one's key to use while its public half is on the way.
_PENDING_SECONDS = 300.0


def manifests(folder: Path, admin_url: str, database: str, namespace: str) -> dict[str, Any]:
    """A List for `kubectl apply`. What `folder` holds stays as it is, so a second run changes nothing.

    Raises CommandFailed for a bad URL and when no key can be made.
    """
    if not is_postgres_url(admin_url):
        raise CommandFailed("The address of PostgreSQL has the form postgresql://user:password@host:5432/database.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = {
        "lakegate-postgres-admin": {"admin-url": admin_url, "migrate-url": _database_url(admin_url, database)},
        "lakegate-admin-key": {"key": secret(folder / ADMIN_KEY, "lgk_")},
        "lakegate-reader-key": {"key": secret(folder / READER_KEY, "lgk_")},
        SIGNING_KEYS: _signing_keys(folder / "keys"),
        "lakegate-rollout-key": {"key": secret(folder / "rollout.key")},
        "lakegate-files-key": {"key": secret(folder / "files.key")},
    }
    for service in SERVICES:
        password = secret(folder / f"postgres-{service}")
        secrets[f"lakegate-{service}-postgres"] = {
            "url": _database_url(admin_url, database, f"lakegate_{service}:{quote(password, safe='')}")
        }
    items = [_manifest(name, values, namespace) for name, values in secrets.items()]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def signing_keys(folder: Path, namespace: str, *, rotate: bool, retire: bool) -> dict[str, Any]:
    """The Secret of the signing keys.

    With `rotate` there is a new one, of which the Secret has the public half only: the private one must not get to a
    gateway before all services know the public one. It comes with the next manifest. `retire` leaves out keys of which
    nothing valid is left. Raises CommandFailed.
    """
    keys = folder / "keys"
    if not keys.is_dir():
        raise CommandFailed(
            f"There are no signing keys in {keys}.", hint="lakegate cluster secrets makes them for a new installation."
        )
    if rotate and (age := _age_of_newest(keys)) < _PENDING_SECONDS:
        raise CommandFailed(
            f"A key was made {age:.0f} seconds ago. It has to be in use before there is another.",
            hint="Put it to use, once all pods have its public half: lakegate cluster keys | kubectl apply -f -",
        )
    known = {file.name for file in keys.glob("*.pem")}
    values = _signing_keys(keys, *(["--rotate"] if rotate else ["--retire"] if retire else []))
    held = {name for name in values if name.endswith(".pem")} - known if rotate else set()
    return _manifest(SIGNING_KEYS, {name: value for name, value in values.items() if name not in held}, namespace)


def _age_of_newest(keys: Path) -> float:
    return time.time() - max((file.stat().st_mtime for file in keys.glob("*.pem")), default=0.0)


def _manifest(name: str, values: dict[str, str], namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "lakegate", "app.kubernetes.io/managed-by": "lakegate"},
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _signing_keys(folder: Path, *options: str) -> dict[str, str]:
    command = [sys.executable, "-m", "lakegate_gateway.keygen", str(folder), *options]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise CommandFailed(
            f"Making the signing key failed: {made.stderr.strip()[-500:]}",
            hint="The gateway's package makes it: pip install 'lakegate[suite]'.",
        )
    return {file.name: file.read_text() for file in sorted(folder.iterdir()) if file.suffix in (".pem", ".json")}


def _database_url(url: str, database: str, user: str | None = None) -> str:
    parts = urlsplit(url)
    given, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user or given}@{place}", path=f"/{database}"))
