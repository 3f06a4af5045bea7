"""`python -m lakegate_gateway.keygen DIR`: the key pair of the internal tokens, made once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lakegate_chassis.tokens import load_private_key, public_jwk

PRIVATE = "internal.pem"
PUBLIC = "internal.jwks.json"


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Write private key (0600) and public JWKS unless they are there; returns their paths."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / PRIVATE, folder / PUBLIC
    if private.exists():
        key = load_private_key(private)
    else:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(private, pem, 0o600)
    # written each time: the private key is the source, and a JWKS of another key would refuse every request
    _write(public, orjson.dumps({"keys": [public_jwk(key)]}), 0o644)
    return private, public


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
    if len(arguments) != 1:
        print("usage: python -m lakegate_gateway.keygen DIR", file=sys.stderr)  # noqa: T201
        return 2
    for path in make_keys(Path(arguments[0])):
        print(path)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
