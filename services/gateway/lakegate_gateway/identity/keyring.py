"""The keys that sign: the newest of a folder signs, the older ones verify until their tokens have ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lakegate_chassis.logs import log
from lakegate_chassis.tokens import InvalidToken, TokenSigner, load_private_key, public_jwk

WATCH_SECONDS = 5.0
Stamp = tuple[tuple[str, int, int], ...]


def key_files(path: Path) -> list[Path]:
    """The PEM files of a folder, oldest first: by name, since a Secret's files all have one time. Or the one file."""
    return sorted(path.glob("*.pem"), key=lambda file: file.stem) if path.is_dir() else [path]


class KeyRing:
    """Read at start, and again when the folder changes: run `watch` under Background."""

    def __init__(self, path: Path) -> None:
        """Raises OSError and ValueError when there is no key to sign with."""
        self._path = path
        self._stamp: Stamp = ()
        self._public: dict[str, Ed25519PublicKey] = {}
        self._jwks: list[dict[str, str]] = []
        self.signer = self._read(key_files(path))

    @property
    def jwks(self) -> dict[str, Any]:
        """The public halves, newest first."""
        return {"keys": self._jwks}

    def public(self, kid: str) -> Ed25519PublicKey:
        """Another replica may sign with a key that we have not looked for yet. Raises InvalidToken."""
        if kid not in self._public:
            self.reload()
        try:
            return self._public[kid]
        except KeyError:
            raise InvalidToken("it is signed by a key that is not in use") from None

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.reload()

    def reload(self) -> None:
        """Take over what changed on disk. What can't be read leaves everything as it is, and is logged."""
        try:
            files = key_files(self._path)
            stamp = _stamp(files)
            if stamp == self._stamp:
                return
            signer = self._read(files)
        except (OSError, ValueError) as error:
            log.error("signing_keys_unreadable", path=str(self._path), reason=str(error))
            return
        if signer.jwk != self.signer.jwk:
            log.info("signing_key_changed", kid=signer.jwk["kid"], keys=len(self._public))
            self.signer = signer

    def _read(self, files: list[Path]) -> TokenSigner:
        if not files:
            raise ValueError(f"{self._path} holds no *.pem file; python -m lakegate_gateway.keygen makes one")
        stamp = _stamp(files)
        keys = [load_private_key(file) for file in files]
        jwks = [dict(public_jwk(key)) for key in reversed(keys)]
        self._public = {public_jwk(key)["kid"]: key.public_key() for key in keys}
        self._jwks = jwks
        self._stamp = stamp
        return TokenSigner(keys[-1])


def _stamp(files: list[Path]) -> Stamp:
    found = [(file.name, file.stat()) for file in files]
    return tuple((name, status.st_mtime_ns, status.st_ino) for name, status in found)
