"""`python -m lakegate_gateway`: serve until SIGTERM."""

from __future__ import annotations

from lakegate_chassis.server import run
from lakegate_chassis.settings import load
from lakegate_gateway.app import create_app
from lakegate_gateway.oauth.endpoints import management_routes
from lakegate_gateway.settings import GatewaySettings


def main() -> None:
    settings = load(GatewaySettings)
    app = create_app(settings)
    run("gateway", settings, app, management_routes(lambda: app.resources))


if __name__ == "__main__":
    main()
