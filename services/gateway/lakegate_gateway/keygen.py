"""`python -m lakegate_gateway.keygen DIR [--rotate | --retire]`: the keys that sign internal tokens and access tokens.

DIR holds private keys (`*.pem`, the last by name signs) and the public ones in one JWKS, which services read.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lakegate_chassis.tokens import load_private_key, public_jwk
from lakegate_gateway.identity.keyring import key_files
from lakegate_gateway.identity.tokens import DELEGATION_SECONDS

PRIVATE = "internal.pem"
PUBLIC = "internal.jwks.json"
# Nothing that we sign lives longer than a delegation; an hour more for clocks, and for replicas that noticed late.
RETIRE_AFTER_SECONDS = DELEGATION_SECONDS + 3600


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Write private key (0600) and public JWKS unless they are there; returns the paths of signing key and JWKS."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not key_files(folder):
        _write(folder / PRIVATE, _pem(Ed25519PrivateKey.generate()), 0o600)
    # written each time: the private keys are the source, and a JWKS without them would refuse every request
    return key_files(folder)[-1], _publish(folder)


def rotate(folder: Path) -> Path:
    """Add a key that signs from now on; the ones before still verify. Returns its path."""
    make_keys(folder)
    key = Ed25519PrivateKey.generate()
    # the public half first: a service that meets the new signature must find it
    _publish(folder, key)
    private = folder / f"internal-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.pem"
    _write(private, _pem(key), 0o600)
    return private


def retire(folder: Path, *, now: float | None = None) -> list[Path]:
    """Delete the keys that were followed by another so long ago that nothing they signed is still valid."""
    latest = (now or time.time()) - RETIRE_AFTER_SECONDS
    files = key_files(folder)
    retired = [old for old, successor in itertools.pairwise(files) if successor.stat().st_mtime < latest]
    for file in retired:
        file.unlink()
    make_keys(folder)
    return retired


def _publish(folder: Path, *coming: Ed25519PrivateKey) -> Path:
    keys = [*map(load_private_key, key_files(folder)), *coming]
    public = folder / PUBLIC
    _write(public, orjson.dumps({"keys": [public_jwk(key) for key in reversed(keys)]}), 0o644)
    return public


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """All or nothing, and never readable by others in between."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m lakegate_gateway.keygen", description="Keys that sign tokens.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where keys and JWKS are; made when it is not there")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--rotate", action="store_true", help="add a key, which signs from now on")
    change.add_argument("--retire", action="store_true", help="delete keys of which nothing valid is left")
    asked = parser.parse_args(arguments)
    if asked.rotate:
        rotate(asked.folder)
    for file in retire(asked.folder) if asked.retire else ():
        print(f"retired {file}")  # noqa: T201
    for path in make_keys(asked.folder):
        print(path)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
