"""All dashboards, and how one is written down."""

from __future__ import annotations

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.catalog import CATALOG
from dashboards.event_log import EVENT_LOG
from dashboards.gateway import GATEWAY
from dashboards.ingest import INGEST
from dashboards.lineage import LINEAGE
from dashboards.overview import OVERVIEW
from dashboards.panels import Dashboard
from dashboards.rollout import ROLLOUT

ALL = (OVERVIEW, GATEWAY, INGEST, CATALOG, LINEAGE, EVENT_LOG, ROLLOUT)


def rendered(board: Dashboard) -> str:
    """The JSON that Grafana imports."""
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
