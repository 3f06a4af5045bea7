"""The token endpoints, what clients discover about them, and the exchange for the services."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from lakegate_chassis.tokens import InvalidToken
from lakegate_contracts.identity import Scope
from lakegate_gateway.deps import Address, Opened
from lakegate_gateway.errors import InvalidScope, OAuthError, Problem
from lakegate_gateway.oauth.schemas import ExchangeAnswer, OAuthProblem, TokenAnswer
from lakegate_gateway.oauth.service import GRANTS
from lakegate_gateway.resources import Resources

TOKEN_PATHS = ("/oauth/token", "/iceberg/v1/oauth/tokens")
_WORDS = {429: "slow_down", 503: "temporarily_unavailable"}
MAX_FORM_BYTES = 64 * 1024
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
DELEGATION_TOKEN = "urn:lakegate:token-type:delegation"
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}

router = APIRouter(tags=["Identity"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": list(GRANTS)},
                        "username": {"type": "string"},
                        "password": {"type": "string", "format": "password"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string", "format": "password"},
                        "refresh_token": {"type": "string"},
                        "scope": {"type": "string", "description": "fewer than granted, separated by spaces"},
                    },
                }
            }
        },
    },
    "security": [],
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": OAuthProblem, "description": "RFC 6749 5.2"},
    401: {"model": OAuthProblem, "description": "The client is not known"},
    429: {"model": OAuthProblem, "description": "Too many failed attempts; see Retry-After"},
}


async def read_form(request: Request) -> dict[str, str]:
    """The form of a token request. Raises OAuthError for anything else, and for a parameter that comes twice."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Send the parameters as application/x-www-form-urlencoded.")
    size = 0
    body = bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_FORM_BYTES:
            raise OAuthError("invalid_request", "The form is larger than any token request.", status=413)
        body += chunk
    pairs: dict[str, str] = {}
    for pair in bytes(body).decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        name = unquote_plus(name)
        if name in pairs:
            raise OAuthError("invalid_request", f"The parameter {name[:100]!r} comes twice.")
        pairs[name] = unquote_plus(value)
    return pairs


Form = Annotated[dict[str, str], Depends(read_form)]


async def basic_client(request: Request) -> tuple[str, str] | None:
    """client_id and secret from Basic; both are form-encoded in it (RFC 6749 2.3.1)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise OAuthError("invalid_client", "The Basic credential is not base64 of client_id:client_secret.", status=401)
    return unquote_plus(name), unquote_plus(secret)


BasicClient = Annotated[tuple[str, str] | None, Depends(basic_client)]


@router.post(
    TOKEN_PATHS[0], summary="Get an access token", response_model=TokenAnswer, responses=_ERRORS, openapi_extra=_FORM
)
async def token(form: Form, client: BasicClient, address: Address, opened: Opened) -> JSONResponse:
    answer = await opened.issuer.grant(form, client, address)
    return JSONResponse(answer.model_dump(exclude_none=True), headers=_NO_STORE)


@router.post(
    TOKEN_PATHS[1],
    summary="Get an access token, as Iceberg clients ask for it",
    response_model=TokenAnswer,
    responses=_ERRORS,
    openapi_extra=_FORM,
)
async def iceberg_token(form: Form, client: BasicClient, address: Address, opened: Opened) -> JSONResponse:
    answer = await opened.issuer.grant(form, client, address, any_scope=True)
    return JSONResponse(answer.model_dump(exclude_none=True), headers=_NO_STORE)


@router.get("/.well-known/jwks.json", summary="Public keys of the access tokens", openapi_extra={"security": []})
async def jwks(opened: Opened) -> dict[str, Any]:
    return opened.tokens.jwks


@router.get("/.well-known/oauth-authorization-server", summary="The issuer (RFC 8414)", openapi_extra={"security": []})
async def metadata(opened: Opened) -> dict[str, Any]:
    url = opened.settings.issuer.url
    return {
        "issuer": url,
        "token_endpoint": f"{url}/oauth/token",
        "jwks_uri": f"{url}/.well-known/jwks.json",
        "grant_types_supported": list(GRANTS),
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "scopes_supported": [scope.value for scope in Scope],
        "service_documentation": f"{url}/docs",
    }


def management_routes(opened: Callable[[], Resources]) -> APIRouter:
    """What only the services reach: a delegation for a fresh internal token, or for its successor (RFC 8693)."""
    private = APIRouter()

    @private.post("/internal/token")
    async def exchange(request: Request) -> JSONResponse:
        try:
            form = await read_form(request)
            if form.get("grant_type") != EXCHANGE_GRANT:
                raise OAuthError("unsupported_grant_type", f"Only {EXCHANGE_GRANT} is served here.")
            subject = form.get("subject_token", "")
            if form.get("requested_token_type") == DELEGATION_TOKEN:
                token, seconds = await opened().renewals.renew(subject, form.get("scope", ""))
            else:
                token, seconds = opened().tokens.exchange(subject, form.get("audience", ""))
        except InvalidScope as error:
            return oauth_answer(OAuthError("invalid_scope", error.detail))
        except InvalidToken as error:
            return oauth_answer(OAuthError("invalid_request", f"The delegation can't be exchanged: {error}."))
        except OAuthError as error:
            return oauth_answer(error)
        return JSONResponse(ExchangeAnswer(access_token=token, expires_in=seconds).model_dump(), headers=_NO_STORE)

    return private


async def on_oauth_error(_: Request, error: Exception) -> JSONResponse:
    """The exception handler of the application."""
    assert isinstance(error, OAuthError)
    return oauth_answer(error)


def of_problem(problem: Problem) -> JSONResponse:
    """What was refused before the endpoint, or failed in a way that nobody foresaw."""
    word = _WORDS.get(problem.status, "invalid_request" if problem.status < 500 else "server_error")
    answer = oauth_answer(OAuthError(word, problem.detail, status=problem.status))
    for name, value in problem.headers.items():
        answer.headers.setdefault(name, value)
    return answer


def oauth_answer(error: OAuthError) -> JSONResponse:
    """RFC 6749 5.2."""
    headers = dict(_NO_STORE)
    if error.status == 401:
        headers["www-authenticate"] = 'Basic realm="lakegate"'
    if error.retry_after:
        headers["retry-after"] = str(error.retry_after)
    body = OAuthProblem(error=error.error, error_description=error.description)
    return JSONResponse(body.model_dump(), error.status, headers)
