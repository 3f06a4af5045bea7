"""What a producer asks for, whichever way it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakegate_contracts.identity import Principal
from lakegate_contracts.names import TableName

OnNewColumn = Literal["evolve", "reject"]
OnBadRow = Literal["refuse", "quarantine"]


@dataclass(frozen=True)
class Producing:
    """Who sends to which stream, in what manner. `on_new_column` None: as the stream has it."""

    principal: Principal
    delegation: str
    table: TableName
    on_new_column: OnNewColumn | None = None
    on_bad_row: OnBadRow = "refuse"
