"""Internal tokens: Ed25519 JWTs (RFC 8037) that the gateway signs and the services check."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lakegate_chassis.logs import log
from lakegate_contracts.identity import TOKEN_TYPE, Principal

ISSUER = "lakegate-gateway"
LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 30  # clocks of two nodes differ; 30 s go unnoticed, more is refused with the skew named
CACHE_ENTRIES = 4096
CHECK_SECONDS = 5.0


class InvalidToken(Exception):
    """A token that is not accepted; the message says why and holds nothing of the token."""


class ClockSkew(InvalidToken):
    """A genuine token outside of its time. `seconds`: how far the issuer's clock is ahead of ours (below 0: behind)."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a PKCS#8 PEM. Raises ValueError when it holds no Ed25519 key."""
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds no Ed25519 private key")
    return key


def public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public half as a JWK whose `kid` is its RFC 7638 thumbprint."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _b64(raw)}
    thumbprint = _b64(hashlib.sha256(orjson.dumps(jwk, option=orjson.OPT_SORT_KEYS)).digest())
    return jwk | {"kid": thumbprint, "alg": "EdDSA", "use": "sig"}


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class TokenSigner:
    """Signs tokens with one key; the gateway is its only user outside of tests."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.jwk = public_jwk(key)

    def mint(
        self,
        principal: Principal,
        audience: str,
        *,
        lifetime_seconds: int = LIFETIME_SECONDS,
        token_type: str = TOKEN_TYPE,
        issuer: str = ISSUER,
        **claims: Any,
    ) -> str:
        """A compact JWT for `audience`, the name of the one service that may take it."""
        now = int(time.time())
        body = {
            "iss": issuer,
            "aud": audience,
            "sub": principal.subject,
            "tenant": principal.tenant,
            "scope": " ".join(principal.scopes),
            "iat": now,
            "exp": now + lifetime_seconds,
            "jti": uuid4().hex,
        }
        return jwt.encode(body | claims, self._key, "EdDSA", {"kid": self.jwk["kid"], "typ": token_type})


class TokenVerifier:
    """Checks tokens against a JWKS file, which is read again when it changes (rotation by `kid`).

    A key that comes is known by the first token it signed, one that goes within CHECK_SECONDS. A verified token is
    remembered until it expires or the keys change, at most CACHE_ENTRIES of them.
    """

    def __init__(self, jwks: Path, audience: str, *, token_type: str = TOKEN_TYPE, issuer: str = ISSUER) -> None:
        self._path = jwks
        self._audience = audience
        self._type = token_type
        self._issuer = issuer
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._stamp = (0, 0)
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._check_at = 0.0
        self._load()

    def verify(self, token: str) -> Principal:
        """Who the token speaks for. Raises InvalidToken."""
        now = time.time()
        if now >= self._check_at or now < self._check_at - CHECK_SECONDS:
            self._reload()
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known and known[0] > now:
            return known[1]
        claims = self._decode(token)
        principal = Principal(tenant=claims["tenant"], subject=claims["sub"], scopes=tuple(claims["scope"].split()))
        self._verified[digest] = (float(claims["exp"]) + LEEWAY_SECONDS, principal)
        while len(self._verified) > CACHE_ENTRIES:
            self._verified.popitem(last=False)
        return principal

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != self._type:
                raise InvalidToken(f"the token is no {self._type}")
            key = self._key(str(header.get("kid")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                ["EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "sub", "tenant", "scope"]},
            )
        except (jwt.ImmatureSignatureError, jwt.ExpiredSignatureError) as error:
            raise _skew(token) from error
        except jwt.PyJWTError as error:
            raise InvalidToken(f"the token is not valid: {error}") from error
        return claims

    def _key(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._keys:
            self._reload()
        try:
            return self._keys[kid]
        except KeyError:
            raise InvalidToken("the token is signed by a key that is not in the JWKS") from None

    def _reload(self) -> None:
        """Take over what changed; a file that is away or broken leaves the keys as they are, and is logged."""
        self._check_at = time.time() + CHECK_SECONDS
        try:
            self._load()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("jwks_unreadable", path=str(self._path), reason=f"{type(error).__name__}: {error}")

    def _load(self) -> None:
        found = self._path.stat()
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == self._stamp:
            return
        keys = orjson.loads(self._path.read_bytes())["keys"]
        self._keys = {
            key["kid"]: Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "==")) for key in keys
        }
        self._stamp = stamp
        self._verified.clear()


def _skew(token: str) -> ClockSkew:
    """Name the distance between the clocks: it is the usual cause between services, and easy to miss."""
    # the signature was checked before the times
    claims = jwt.decode(token, options={"verify_signature": False})
    seconds = int(claims["iat"]) - int(time.time())
    when = f"in {seconds} s" if seconds > 0 else f"{-seconds} s ago"
    return ClockSkew(
        f"by the clock here the token was issued {when}, and it lives {LIFETIME_SECONDS} s with {LEEWAY_SECONDS} s of "
        "leeway: compare the clocks",
        seconds,
    )
