"""The Secrets that the charts refer to, made from one folder that keeps what was made."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from lakegate.embedded.database import is_postgres_url
from lakegate.embedded.ports import SERVICES
from lakegate.embedded.secret_files import secret
from lakegate.failures import CommandFailed

ADMIN_KEY = "admin.key"


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
        "lakegate-signing-keys": _signing_keys(folder / "keys"),
        "lakegate-rollout-key": {"key": secret(folder / "rollout.key")},
        "lakegate-files-key": {"key": secret(folder / "files.key")},
    }
    for service in SERVICES:
        password = secret(folder / f"postgres-{service}")
        secrets[f"lakegate-{service}-postgres"] = {
            "url": _database_url(admin_url, database, f"lakegate_{service}:{quote(password, safe='')}")
        }
    items = [
        {
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
        for name, values in secrets.items()
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _signing_keys(folder: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "lakegate_gateway.keygen", str(folder)]
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
