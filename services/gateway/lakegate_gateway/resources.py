"""What the gateway holds open: pool, upstream connections, clients for composite reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.http import upstream_client
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_contracts.identity import Scope
from lakegate_gateway.accounts import queries as account_queries
from lakegate_gateway.accounts.service import Accounts
from lakegate_gateway.errors import TooManyEventStreams, TooManySockets
from lakegate_gateway.identity.attempts import Attempts
from lakegate_gateway.identity.authenticator import Authenticator
from lakegate_gateway.identity.keyring import KeyRing
from lakegate_gateway.identity.renewals import Renewals
from lakegate_gateway.identity.revocations import Revocations
from lakegate_gateway.identity.sessions import Places, Sessions
from lakegate_gateway.identity.tokens import Tokens
from lakegate_gateway.identity.verified import VerificationCache
from lakegate_gateway.keys.service import Keys
from lakegate_gateway.oauth.service import Issuer
from lakegate_gateway.openapi import MergedDocument
from lakegate_gateway.relay.events import EventRelay
from lakegate_gateway.relay.relay import Relay
from lakegate_gateway.relay.sockets import SocketRelay
from lakegate_gateway.relay.upstream import Upstream
from lakegate_gateway.settings import BootstrapSettings, GatewaySettings

CLEAN_EVERY_SECONDS = 3600.0


@dataclass(frozen=True)
class Resources:
    settings: GatewaySettings
    pool: asyncpg.Pool
    tokens: Tokens
    renewals: Renewals
    verified: VerificationCache
    keys: Keys
    accounts: Accounts
    issuer: Issuer
    authenticator: Authenticator
    relay: Relay
    events: EventRelay
    sockets: SocketRelay
    clients: dict[str, httpx.AsyncClient]
    openapi: MergedDocument


@asynccontextmanager
async def open_resources(settings: GatewaySettings) -> AsyncIterator[Resources]:
    """Open everything; the upstreams may come later, the database and the key have to be there."""
    ring = KeyRing(settings.token.private_key)
    tokens = Tokens(ring, settings.issuer.url, settings.issuer.access_token_seconds)
    async with AsyncExitStack() as stack:
        pool = await open_pool(settings.postgres, "gateway")
        stack.push_async_callback(close_pool, pool)
        clients = {name: upstream_client(name, url) for name, url in settings.upstreams.items()}
        for client in clients.values():
            stack.push_async_callback(client.aclose)
        sessions = Sessions()
        relay, events, sockets = _open_relays(settings, sessions, stack)
        verified = VerificationCache()
        # publishing and reading by position are the outbox's, with Kafka too
        revocations = Revocations(PostgresEventLog(pool), verified, sessions)
        keys = Keys(pool, verified, revocations)
        accounts = Accounts(pool, Attempts(settings.limits.login_attempts_per_minute), verified, revocations)
        await _make_first_keys(keys, settings.bootstrap)
        background = Background()
        background.start("write-used-keys", keys.write_used)
        background.start("follow-revocations", revocations.follow)
        background.start("watch-signing-keys", ring.watch)
        if settings.sweeps_in_process:
            background.start("drop-expired-refresh-tokens", lambda: _clean(pool))
        stack.push_async_callback(background.stop)
        yield Resources(
            settings=settings,
            pool=pool,
            tokens=tokens,
            renewals=Renewals(pool, tokens),
            verified=verified,
            keys=keys,
            accounts=accounts,
            issuer=Issuer(pool, tokens, accounts, settings.issuer),
            authenticator=Authenticator(tokens, keys, accounts, verified),
            relay=relay,
            events=events,
            sockets=sockets,
            clients=clients,
            openapi=MergedDocument(clients, settings.issuer.url),
        )
        await background.stop()
        await keys.flush_used()


def _open_relays(
    settings: GatewaySettings, sessions: Sessions, stack: AsyncExitStack
) -> tuple[Relay, EventRelay, SocketRelay]:
    """What passes requests, event streams and WebSockets on; `stack` closes it."""
    limits = settings.limits
    relay = Relay(
        {
            name: Upstream(name, url, max_connections=limits.upstream_connections)
            for name, url in settings.upstreams.items()
        },
        limits,
    )
    stack.callback(relay.close)
    stream_places = Places(
        sessions,
        limits.event_streams,
        limits.event_streams_per_tenant,
        kind="event streams",
        refusal=TooManyEventStreams,
    )
    socket_places = Places(
        sessions, limits.sockets, limits.sockets_per_tenant, kind="WebSockets", refusal=TooManySockets
    )
    sockets = SocketRelay(settings.upstreams, limits.socket_message_bytes, socket_places)
    stack.push_async_callback(sockets.close)
    return relay, EventRelay(relay, stream_places), sockets


async def _make_first_keys(keys: Keys, settings: BootstrapSettings) -> None:
    """An administrator's, and the one that a rollout's driver reads with."""
    if settings.key is not None:
        await keys.bootstrap(settings.key.get_secret_value(), settings.tenant)
    if settings.reader_key is not None:
        await keys.bootstrap(
            settings.reader_key.get_secret_value(),
            settings.tenant,
            name="reader",
            scopes=(Scope.DATASETS_READ, Scope.LINEAGE_READ),
        )


async def _clean(pool: asyncpg.Pool) -> None:
    while True:
        await account_queries.drop_expired(pool)
        await asyncio.sleep(CLEAN_EVERY_SECONDS)
