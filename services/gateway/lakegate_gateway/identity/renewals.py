"""Delegations that live on: a stream's rows are committed long after the request that sent them.

A successor is for one scope, which its predecessor has to cover. Whoever gave the first one must still hold that scope:
revoking a key, or taking a scope from a user, ends the streams in its name within a day at most. And thirty days after
the caller's last request it ends by itself.
"""

from __future__ import annotations

import asyncpg

from lakegate_chassis.tokens import InvalidToken
from lakegate_gateway.accounts import queries
from lakegate_gateway.identity.scopes import check_scopes, narrow
from lakegate_gateway.identity.tokens import Tokens


class Renewals:
    def __init__(self, pool: asyncpg.Pool, tokens: Tokens) -> None:
        self._pool = pool
        self._tokens = tokens

    async def renew(self, delegation: str, scope: str) -> tuple[str, int]:
        """The successor and its lifetime in seconds. Raises InvalidToken, InvalidScope, Unavailable."""
        (wanted,) = check_scopes([scope])
        principal, claims = self._tokens.renewable(delegation, wanted)
        held = await queries.held_scopes(self._pool, principal.tenant, principal.subject)
        if narrow(held, [wanted]) is None:
            raise InvalidToken(f"{principal.subject} does not hold {wanted} any more")
        return self._tokens.renewed(principal, claims)
