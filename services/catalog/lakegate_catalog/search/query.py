"""From what a person types to a tantivy query, and back to datasets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any

import tantivy

from lakegate_catalog.search.index import SearchIndex, words

MAX_WORDS = 12
FACET_VALUES = 20
ENOUGH = 20
# How much a hit counts by the field it is in, and by how near the word was, whatever else is in the index: a beginning
# in a name (6) is above a whole word in columns (4.5).
FIELD_BOOSTS = {"name": 4.0, "columns": 1.5, "text": 1.0}
EXACT, PREFIX, FUZZY = 3.0, 1.5, 0.5
# Of hits that are equal by that, the one in a shorter field is first. BM25 says it, and also how rare the word is among
# the datasets of all tenants, which is no reason to rank by: so it counts little.
SHORTER = 0.005
MIN_FUZZY_LENGTH = 4  # one letter off in three matches nearly everything


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search. `areas`: namespace patterns of the caller's scopes; None: all of the tenant's datasets."""

    tenant: str
    text: str = ""
    kind: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    areas: tuple[str, ...] | None = None
    offset: int = 0
    limit: int = 20
    facets: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """`total` counts all matches; `hits` are (score, wire dataset as JSON) of this page, the best first."""

    total: int
    hits: list[tuple[float, bytes]]
    facets: dict[str, dict[str, int]] = field(default_factory=dict)


def search(index: SearchIndex, wanted: Wanted) -> Found:
    """Every word has to match somewhere: exactly, or as a beginning; nearer ranks higher.

    When that finds less than ENOUGH, words that are one typing error away count too: looking for those costs
    as much again, and whoever typed a word right does not want its neighbours.
    """
    searcher: Any = index.index.searcher()
    asked = words(wanted.text)[:MAX_WORDS]
    query = _query(index.schema, wanted, asked, fuzzy=False)
    result = searcher.search(query, limit=wanted.limit, offset=wanted.offset, count=True)
    if result.count < ENOUGH and any(len(word) >= MIN_FUZZY_LENGTH for word in asked):
        query = _query(index.schema, wanted, asked, fuzzy=True)
        result = searcher.search(query, limit=wanted.limit, offset=wanted.offset, count=True)
    hits = [(float(score), bytes(searcher.doc(address)["body"][0])) for score, address in result.hits]
    facets = _facets(searcher, query) if wanted.facets else {}
    return Found(int(result.count), hits, facets)


def _query(schema: Any, wanted: Wanted, asked: list[str], *, fuzzy: bool) -> Any:
    must, should = tantivy.Occur.Must, tantivy.Occur.Should
    clauses = [(must, _filter(schema, "tenant", wanted.tenant))]
    for name, value in (("kind", wanted.kind), ("owner", wanted.owner)):
        if value is not None:
            clauses.append((must, _filter(schema, name, value)))
    clauses += [(must, _filter(schema, "tag", tag)) for tag in wanted.tags]
    if wanted.areas is not None:
        areas = [(should, _area(schema, pattern)) for pattern in wanted.areas]
        clauses.append((must, tantivy.Query.const_score_query(tantivy.Query.boolean_query(areas), 0.0)))
    clauses += [(must, _word(schema, word, fuzzy=fuzzy)) for word in asked]
    clauses += [(should, _shorter(schema, name, word)) for word in asked for name in FIELD_BOOSTS]
    if asked:
        whole = tantivy.Query.term_query(schema, "full_name", wanted.text.strip().lower())
        clauses.append((should, tantivy.Query.boost_query(tantivy.Query.const_score_query(whole, 1.0), 50.0)))
    return tantivy.Query.boolean_query(clauses)


def _filter(schema: Any, name: str, value: str) -> Any:
    return tantivy.Query.const_score_query(tantivy.Query.term_query(schema, name, value), 0.0)


def _word(schema: Any, word: str, *, fuzzy: bool) -> Any:
    options = []
    for name, boost in FIELD_BOOSTS.items():
        exact = tantivy.Query.const_score_query(tantivy.Query.term_query(schema, name, word), 1.0)
        options.append(tantivy.Query.boost_query(exact, boost * EXACT))
        begins = tantivy.Query.fuzzy_term_query(schema, name, word, distance=0, prefix=True)
        options.append(tantivy.Query.boost_query(begins, boost * PREFIX))
        if fuzzy and len(word) >= MIN_FUZZY_LENGTH:
            near = tantivy.Query.fuzzy_term_query(schema, name, word, distance=1, transposition_cost_one=True)
            options.append(tantivy.Query.boost_query(near, boost * FUZZY))
    # the best field counts, others add a little: a word in name and columns should not outrank two matching words
    return tantivy.Query.disjunction_max_query(options, tie_breaker=0.1)


def _shorter(schema: Any, name: str, word: str) -> Any:
    return tantivy.Query.boost_query(tantivy.Query.term_query(schema, name, word, index_option="freq"), SHORTER)


def _area(schema: Any, pattern: str) -> Any:
    """Like contracts' `covers`: `travel.*` covers `travel` too."""
    if pattern.endswith(".*"):
        stem = _regex(pattern[:-2])
        return tantivy.Query.regex_query(schema, "area", f"{stem}(\\..*)?")
    return tantivy.Query.regex_query(schema, "area", _regex(pattern))


def _regex(pattern: str) -> str:
    """fnmatch's own translation without its Python-only wrapping: tantivy anchors patterns itself."""
    found = re.fullmatch(r"\(\?s:(.*)\)\\[Zz]", translate(pattern), re.DOTALL)
    return found[1] if found else re.escape(pattern)


def _facets(searcher: Any, query: Any) -> dict[str, dict[str, int]]:
    asked = {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in ("kind", "tag", "owner")}
    counted = searcher.aggregate(query, asked)
    return {name: {bucket["key"]: bucket["doc_count"] for bucket in counted[name]["buckets"]} for name in asked}
