"""The built-in issuer: the grants of RFC 6749 that need no browser."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

from lakegate_contracts.identity import Principal
from lakegate_gateway.accounts import queries
from lakegate_gateway.accounts.service import Accounts
from lakegate_gateway.errors import InvalidScope, OAuthError, TooManyRequests, Unavailable
from lakegate_gateway.identity.scopes import check_scopes, narrow
from lakegate_gateway.identity.tokens import Tokens
from lakegate_gateway.oauth.schemas import TokenAnswer
from lakegate_gateway.settings import IssuerSettings

REFRESH_PREFIX = "lgr_"
GRANTS = ("password", "client_credentials", "refresh_token")


class Issuer:
    def __init__(self, pool: asyncpg.Pool, tokens: Tokens, accounts: Accounts, settings: IssuerSettings) -> None:
        self._pool = pool
        self._tokens = tokens
        self._accounts = accounts
        self._refresh_lifetime = timedelta(seconds=settings.refresh_token_seconds)

    async def grant(
        self, form: Mapping[str, str], basic: tuple[str, str] | None, address: str, *, any_scope: bool = False
    ) -> TokenAnswer:
        """Answer a token request. `any_scope` passes over scopes that aren't ours, as Iceberg's `catalog`.

        Raises OAuthError, also for what a limiter or a database that is away refuses.
        """
        try:
            return await self._grant(form, basic, address, any_scope=any_scope)
        except (TooManyRequests, Unavailable) as error:
            word = "slow_down" if error.status == 429 else "temporarily_unavailable"
            raise OAuthError(
                word, error.detail, status=error.status, retry_after=int(error.headers["retry-after"])
            ) from error

    async def _grant(
        self, form: Mapping[str, str], basic: tuple[str, str] | None, address: str, *, any_scope: bool
    ) -> TokenAnswer:
        wanted = tuple(form.get("scope", "").split())
        if any_scope:
            wanted = tuple(scope for scope in wanted if ":" in scope or scope == "admin")
        match form.get("grant_type"):
            case "password":
                return await self._password(form, wanted, address)
            case "client_credentials":
                return await self._client_credentials(form, basic, wanted, address)
            case "refresh_token":
                return await self._refresh(form, wanted)
            case None | "":
                raise OAuthError("invalid_request", f"grant_type is missing. It is one of {', '.join(GRANTS)}.")
            case other:
                raise OAuthError(
                    "unsupported_grant_type", f"{other[:100]!r} is not served here. There are: {', '.join(GRANTS)}."
                )

    async def _password(self, form: Mapping[str, str], wanted: tuple[str, ...], address: str) -> TokenAnswer:
        username, password = form.get("username"), form.get("password")
        if not username or not password:
            raise OAuthError("invalid_request", "The password grant takes username and password.")
        login = await self._accounts.log_in(username, password, address)
        if login is None:
            raise OAuthError("invalid_grant", "The name or the password is wrong.")
        principal = _narrowed(login.principal, wanted)
        refresh = _new_refresh_token()
        stored = await queries.insert_refresh_token(
            self._pool,
            principal.tenant,
            _digest(refresh),
            family=uuid4(),
            subject=principal.subject,
            credential_id=login.credential_id,
            scopes=list(principal.scopes),
            expires_at=self._refresh_expiry(),
        )
        if not stored:
            raise OAuthError("invalid_grant", "The password has been changed just now.")
        return self._answer(principal, login.credential_id, refresh)

    async def _client_credentials(
        self, form: Mapping[str, str], basic: tuple[str, str] | None, wanted: tuple[str, ...], address: str
    ) -> TokenAnswer:
        client_id, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        if not client_id or not secret:
            raise OAuthError("invalid_client", "Send client_id and client_secret, by Basic or in the form.", status=401)
        login = await self._accounts.log_in_client(client_id, secret, address)
        if login is None:
            raise OAuthError("invalid_client", "The client is not known, or its secret is wrong.", status=401)
        # RFC 6749 4.4.3: no refresh token here
        return self._answer(_narrowed(login.principal, wanted), login.credential_id, None)

    async def _refresh(self, form: Mapping[str, str], wanted: tuple[str, ...]) -> TokenAnswer:
        token = form.get("refresh_token")
        if not token:
            raise OAuthError("invalid_request", "The refresh_token grant takes refresh_token.")
        digest = _digest(token)
        row = await queries.find_refresh_token(self._pool, digest)
        if row is None:
            raise OAuthError("invalid_grant", "The refresh token is not known. Log in again.")
        if row["expires_at"] <= datetime.now(UTC):
            raise OAuthError("invalid_grant", "The refresh token has expired. Log in again.")
        # what was taken from the user since is gone from the token too
        user = await self._accounts.user(row["subject"])
        if user is None:
            await queries.drop_family(self._pool, row["tenant"], row["family"])
            raise OAuthError("invalid_grant", "The user is gone.")
        scopes = tuple(scope for scope in row["scopes"] if narrow(user.principal.scopes, [scope]))
        principal = _narrowed(Principal(tenant=row["tenant"], subject=row["subject"], scopes=scopes), wanted)
        following = _new_refresh_token()
        if not await queries.rotate_refresh_token(self._pool, row, digest, _digest(following), self._refresh_expiry()):
            raise OAuthError(
                "invalid_grant",
                "The refresh token has been used before: someone else may have it, so all of this login are void. "
                "Log in again.",
            )
        return self._answer(principal, user.credential_id, following)

    def _answer(self, principal: Principal, credential_id: UUID, refresh: str | None) -> TokenAnswer:
        return TokenAnswer(
            access_token=self._tokens.access_token(principal, credential_id),
            expires_in=self._tokens.access_token_seconds,
            scope=" ".join(principal.scopes),
            refresh_token=refresh,
        )

    def _refresh_expiry(self) -> datetime:
        return datetime.now(UTC) + self._refresh_lifetime


def _narrowed(principal: Principal, wanted: tuple[str, ...]) -> Principal:
    if not wanted:
        return principal
    try:
        scopes = narrow(principal.scopes, check_scopes(wanted))
    except InvalidScope as error:
        raise OAuthError("invalid_scope", error.detail) from error
    if scopes is None:
        raise OAuthError("invalid_scope", f"Granted are at most: {' '.join(principal.scopes)}.")
    return principal.model_copy(update={"scopes": scopes})


def _new_refresh_token() -> str:
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
