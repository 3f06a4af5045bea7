"""How far one walk of a graph may go."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

MAX_DEPTH = 20
MAX_NODES = 5000
EDGES_PER_NODE = 8  # a level reads at most so many rows for each node of the budget: a hub must not read millions

Depth = Annotated[int, Query(ge=0, le=MAX_DEPTH, description="edges to follow from the start")]
NodeBudget = Annotated[int, Query(ge=1, le=MAX_NODES, description="nodes at most; `truncated` says when it cut")]
