"""Wire models of search."""

from __future__ import annotations

from pydantic import BaseModel, Field

from lakegate_catalog.datasets.schemas import Dataset


class Hit(Dataset):
    score: float = Field(description="comparable within one answer only; higher is better")


class SearchAnswer(BaseModel):
    """A page of hits, the best first."""

    items: list[Hit]
    total: int = Field(description="matches on all pages")
    facets: dict[str, dict[str, int]] = Field(
        description="with facets=true, for kind, tag and owner: how many matches have which value"
    )
    next: str | None = Field(description="cursor of the next page; null on the last, and after 1,000 hits")
