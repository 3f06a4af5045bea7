"""AWS Signature Version 4 of requests with an Authorization header, checked as S3 does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from lakegate_catalog.files.dialect import S3Error, bad_request, denied

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)
_UNRESERVED = "-._~"


@dataclass(frozen=True)
class Signature:
    """An Authorization header. `scope` is `date/region/service/aws4_request`."""

    access_key: str
    scope: str
    signed_headers: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, header: str) -> Signature:
        """Raises S3Error."""
        algorithm, _, rest = header.partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        access_key, slash, scope = fields.get("Credential", "").partition("/")
        parts = scope.split("/")
        signed = tuple(fields.get("SignedHeaders", "").split(";"))
        if algorithm != ALGORITHM or not slash or len(parts) != 4 or parts[2:] != ["s3", "aws4_request"]:
            raise bad_request("The Authorization header is no AWS Signature Version 4 for S3.")
        if "host" not in signed:
            raise denied("The host has to be signed.")
        return cls(access_key, scope, signed, fields.get("Signature", ""))


@dataclass(frozen=True)
class Signed:
    """A request as its client signed it. `path` is raw, and so is `query`; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Verified:
    """What a body is checked with: the key, the time and scope, and the signature that its first chunk follows."""

    key: bytes
    time: str
    scope: str
    signature: str
    content_sha256: str


def verify(signature: Signature, request: Signed, secret: str, *, now: datetime | None = None) -> Verified:
    """Raises S3Error: SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied for what should have been signed."""
    sent_at = request.headers.get("x-amz-date", "")
    content_sha256 = request.headers.get("x-amz-content-sha256", "")
    _check_time(sent_at, signature.scope, now or datetime.now(UTC))
    if not content_sha256:
        raise bad_request("The header x-amz-content-sha256 is missing.")
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in signature.signed_headers]
    if unsigned:
        raise denied(f"The header {unsigned[0]} is sent but not signed.")
    canonical = _canonical(signature, request, content_sha256)
    text = "\n".join((ALGORITHM, sent_at, signature.scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = signing_key(secret, signature.scope)
    if not hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature.value):
        raise S3Error(403, "SignatureDoesNotMatch", "The signature is not the one that these keys make.")
    return Verified(key, sent_at, signature.scope, signature.value, content_sha256)


def signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _check_time(sent_at: str, scope: str, now: datetime) -> None:
    try:
        moment = datetime.strptime(sent_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise bad_request("The header x-amz-date is missing, or no time.") from error
    if abs(now - moment) > SKEW or not scope.startswith(sent_at[:8]):
        raise S3Error(
            403, "RequestTimeTooSkewed", f"The request was signed at {sent_at}, and here it is {now:%Y%m%dT%H%M%SZ}."
        )


def _canonical(signature: Signature, request: Signed, content_sha256: str) -> str:
    headers = []
    for name in signature.signed_headers:
        # the gateway keeps it for itself; it has this one value (RFC 9110, 10.1.1)
        value = request.headers.get(name, "100-continue" if name == "expect" else "")
        headers.append(f"{name}:{' '.join(value.split())}\n")
    return "\n".join(
        (
            request.method,
            quote(unquote_to_bytes(request.path), safe=f"/{_UNRESERVED}"),
            _canonical_query(request.query),
            "".join(headers),
            ";".join(signature.signed_headers),
            content_sha256,
        )
    )


def _canonical_query(query: str) -> str:
    pairs = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        pairs.append(tuple(quote(unquote_to_bytes(text), safe=_UNRESERVED) for text in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
