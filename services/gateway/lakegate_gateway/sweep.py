"""`python -m lakegate_gateway.sweep`: drop expired refresh tokens, once."""

from __future__ import annotations

from lakegate_chassis.once import run_once, sweep_once
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import load
from lakegate_gateway.accounts import queries
from lakegate_gateway.settings import GatewaySettings


async def sweep(settings: GatewaySettings) -> bool:
    pool = await open_pool(settings.postgres, "gateway")
    try:
        return await sweep_once({"drop-expired-refresh-tokens": lambda: queries.drop_expired(pool)})
    finally:
        await close_pool(pool)


def main() -> None:
    settings = load(GatewaySettings)
    run_once("gateway", settings, lambda: sweep(settings))


if __name__ == "__main__":
    main()
