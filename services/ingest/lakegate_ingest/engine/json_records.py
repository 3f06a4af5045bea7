"""Blocks of JSON records (lines, or elements of an array) as text columns, one for each key asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.batch import Batch, Broken, Records, among, positions_of
from lakegate_ingest.engine.commas import with_stray_comma
from lakegate_ingest.engine.duck import Session
from lakegate_ingest.engine.types import literal, on

_VALID = "json_valid(line)"
_INVALID = "the line is not valid JSON"
_STRAY_COMMA = f"{_INVALID}: a comma stands before a closing bracket"
_GROUP_KEYS = 200
INEXACT = "[0-9.]{16}|[eE]-[0-9]{3}"  # fifteen digits and a point come through a double; with e-324 nothing does
_TINY = "[eE]-[0-9]{3}|0[.]0{200}"  # a number that a double may only hold as 0
_NO_JSON = "'(?i)-?(nan|inf|infinity)'"  # DuckDB takes them for numbers
# On the text of a value: an object or array that may have such a word in it.
NESTED_DOUBT = (
    "(CASE WHEN {v} >= '[' AND ({v} < '\\' OR {v} >= '{')"
    " THEN regexp_matches({v}, '(?i)[:,[]-?(nan|inf)') ELSE false END)"
)
_CONTROL = "[\\x00-\\x1f\\x7f]"


@dataclass(frozen=True, slots=True)
class Exact:
    """The keys under which a number is no double. DuckDB makes one of each that has a point or an exponent: 1.10
    comes as 1.1, and of more than fifteen digits some are others. `numbers` mind the value, `texts` the spelling, and
    `fractions`, which are doubles or floats, that a number does not become 0."""

    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    fractions: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.texts or name in self.numbers or name in self.fractions


NOTHING_EXACT = Exact()


def json_batch(
    block: Records,
    names: Sequence[str],
    session: Session,
    *,
    kinds: bool,
    exact: Exact = NOTHING_EXACT,
) -> Batch:
    """Columns c0, c1, …; with `kinds` also k0, k1, …: the first character of each value as JSON.

    Where all records have just the keys asked for, reading them costs one look at each, and counting their keys
    another. Records with more keys are looked at again; where some have fewer, those with a null or with a key twice.
    """
    lines = pa.table({"line": block.split().texts})
    reasons: dict[int, str] = {}
    kept: Any = None  # which records `lines` are; None: all
    stray = with_stray_comma(lines["line"].combine_chunks()).to_pylist()
    if stray:
        reasons = dict.fromkeys(stray, _STRAY_COMMA)
        usable = pc.invert(among(lines.num_rows, stray))
        kept = pc.indices_nonzero(usable)
        lines = lines.filter(usable)
    try:
        found = _extract(names, lines, session, kinds, exact, strict=True)
    except duckdb.InvalidInputException:  # a record that is no object, or lacks a key
        valid = session.ask(f"SELECT {_VALID} AS valid FROM lines", "lines", lines)["valid"].combine_chunks()
        if not pc.all(valid).as_py():
            invalid: Any = pc.indices_nonzero(pc.invert(valid))
            rest: Any = pc.indices_nonzero(valid)
            if kept is not None:
                invalid, rest = kept.take(invalid), kept.take(rest)
            reasons |= dict.fromkeys(invalid.to_pylist(), _INVALID)
            kept = rest
            lines = lines.filter(valid)
        found = _extract(names, lines, session, kinds, exact, strict=False)
    odd = pc.indices_nonzero(found["odd"].combine_chunks())
    bad, unknown = _look_again(lines, odd, names, session) if len(odd) else ({}, ())
    table, not_json = _as_written(
        found.drop_columns(["object", "odd", "inexact"]), found["inexact"], lines, names, exact
    )
    bad |= not_json | _no_objects(lines, found["object"], session)
    if bad:
        table = table.filter(pc.invert(among(lines.num_rows, list(bad))))
        places = kept.take(pa.array(list(bad), pa.int64())).to_pylist() if kept is not None else bad
        reasons |= dict(zip(places, bad.values(), strict=True))
    broken = tuple(Broken(index, reasons[index]) for index in sorted(reasons))
    return Batch(table, positions_of(table.num_rows, broken), broken, block, unknown)


def _no_objects(lines: pa.Table, is_object: Any, session: Session) -> dict[int, str]:
    """Why the records that are no objects are no rows."""
    rows = pc.indices_nonzero(pc.invert(is_object).combine_chunks())
    if not len(rows):
        return {}
    found = session.ask("SELECT json_type(line) AS kind FROM others", "others", lines.take(rows))
    return {row: _reason(str(kind)) for row, kind in zip(rows.to_pylist(), found["kind"].to_pylist(), strict=True)}


def _as_written(
    table: pa.Table, inexact: Any, lines: pa.Table, names: Sequence[str], exact: Exact
) -> tuple[pa.Table, dict[int, str]]:
    """`table` with the numbers of the records that are `inexact` as they are written, and why some are no rows."""
    written: dict[int, dict[int, str]] = {}
    reasons: dict[int, str] = {}
    places: Any = pc.indices_nonzero(inexact.combine_chunks())
    for index, text in zip(places.to_pylist(), lines.take(places)["line"].to_pylist(), strict=True):
        try:
            record = json.loads(str(text), parse_float=_Number, parse_int=str, parse_constant=_refuse)
        except (ValueError, RecursionError):
            reasons[index] = _INVALID
            continue
        for position, name in enumerate(names if isinstance(record, dict) else ()):
            value = record.get(name)
            if isinstance(value, _Number) and name in exact:
                written.setdefault(position, {})[index] = str(value)
    for position, texts in written.items():
        column = table[f"c{position}"].combine_chunks()
        values = pa.array([texts[index] for index in sorted(texts)], column.type)
        place = table.column_names.index(f"c{position}")
        replaced = pc.replace_with_mask(column, among(len(column), sorted(texts)), values)
        table = table.set_column(place, f"c{position}", replaced)
    return table, reasons


class _Number(str):
    """A number with a point or an exponent, as it is written."""

    __slots__ = ()


def _refuse(word: str) -> str:
    raise ValueError(word)


def keys_of(block: Records, session: Session) -> list[str]:
    """The keys of all objects of a block, in order of appearance."""
    statement = f"SELECT unnest(json_keys(line)) AS key FROM lines WHERE {_VALID}"
    texts: Any = block.split().texts
    stray = with_stray_comma(texts).to_pylist()
    keys = session.ask(statement, "lines", pa.table({"line": texts.filter(pc.invert(among(len(texts), stray)))}))
    usable = [str(key) for key in pc.unique(keys["key"]).to_pylist() if not re.search(_CONTROL, str(key))]
    return _without_case_twins(usable, ())


def _without_case_twins(keys: Sequence[str], known: Iterable[str]) -> list[str]:
    """`keys` without those that differ from a known or an earlier one only in case: their records are set aside."""
    seen = {key.casefold() for key in known}
    kept = []
    for key in keys:
        if key.casefold() not in seen:
            seen.add(key.casefold())
            kept.append(key)
    return kept


def _extract(
    names: Sequence[str], lines: pa.Table, session: Session, kinds: bool, exact: Exact, *, strict: bool
) -> pa.Table:
    """Columns object, odd, inexact, c0, …; some keys at a time, for DuckDB's memory and its limit on expressions.
    With `strict`, raises duckdb.InvalidInputException where a record is no object, lacks a key or has one twice."""
    columns: dict[str, Any] = {}
    present: Any = None
    inexact: Any = None
    for start in range(0, max(len(names), 1), _GROUP_KEYS):
        statement = _statement(names[start : start + _GROUP_KEYS], kinds, exact, first=start, strict=strict)
        part = session.ask(statement, "lines", lines)
        present = part["present"] if present is None else pc.add(present, part["present"])
        inexact = part["inexact"] if inexact is None else pc.or_(inexact, part["inexact"])
        columns |= {name: part[name] for name in part.column_names if start == 0 or name not in ("object", "keys")}
    odd = pc.not_equal(pc.fill_null(columns.pop("keys"), 0), present)
    del columns["present"], columns["inexact"]
    return pa.table({"odd": odd, "inexact": inexact, **columns})


def _statement(names: Sequence[str], kinds: bool, exact: Exact, *, first: int, strict: bool) -> str:
    structure = literal(json.dumps(dict.fromkeys(names, "JSON" if kinds else "VARCHAR"), ensure_ascii=False))
    values = f"{'from_json_strict' if strict else 'from_json'}(line, {structure})" if names else "NULL"
    is_object = "CASE WHEN keys = 0 THEN json_type(line) = 'OBJECT' ELSE true END AS object"
    columns = []
    places = range(first, first + len(names))
    for position in places:
        value = f"struct_extract_at(v, {position - first + 1})"
        if kinds:
            columns.append(f"nullif({value}::VARCHAR, 'null') AS j{position}")
        else:
            columns.append(f"{value} AS c{position}")
    doubts = [] if kinds else [_doubt(f"c{place}", name, exact) for place, name in zip(places, names, strict=True)]
    present = f"CASE WHEN object THEN {len(names)} ELSE 0 END"
    if not strict:
        present = " + ".join(f"({'j' if kinds else 'c'}{position} IS NOT NULL)::INT" for position in places) or "0"
    inner = f"SELECT line, len(json_keys(line)) AS keys, {values} AS v FROM lines"
    middle = f"SELECT {', '.join(['line', is_object, 'keys', *columns])} FROM ({inner})"
    outer = [f"c{position}" for position in places]
    if kinds:
        outer = [
            f"CASE WHEN left(j{position}, 1) = '\"' THEN substr(j{position}, 2, length(j{position}) - 2) "
            f"ELSE j{position} END AS c{position}, left(j{position}, 1) AS k{position}"
            for position in places
        ]
    inexact = f"coalesce({' OR '.join(doubts) or 'false'}, false) AS inexact"
    return f"SELECT {', '.join(['object', 'keys', inexact, f'({present})::INT AS present', *outer])} FROM ({middle})"


def _doubt(value: str, name: str, exact: Exact) -> str:
    """SQL: whether a value may not be what is written, or be a word that is no JSON. Asks the JSON only if it must."""
    cheap = f"(strlen({value}) BETWEEN 3 AND 9 AND regexp_full_match({value}, {_NO_JSON}))"
    if name in exact.texts or name in exact.numbers:
        fraction = f"{value} >= '-' AND {value} < ':' AND (contains({value}, '.') OR contains({value}, 'e'))"
        if name not in exact.texts:
            fraction += f" AND regexp_matches(line, '{INEXACT}')"
        cheap = f"{cheap} OR ({fraction})"
    if name in exact.fractions:
        cheap = f"{cheap} OR ({value} IN ('0.0', '-0.0') AND regexp_matches(line, '{_TINY}'))"
    doubt = f"CASE WHEN {cheap} THEN json_type(line, {literal(_pointer(name))}) = 'DOUBLE' ELSE false END"
    return f"({doubt} OR {on(NESTED_DOUBT, value)})" if name in exact.texts else doubt


def _look_again(
    lines: pa.Table, odd: Any, names: Sequence[str], session: Session
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Of the records `odd`: why those with an impossible key are no rows, and the keys that were not asked for."""
    found = session.ask(
        "SELECT keys, coalesce(len(keys) <> len(list_distinct(keys)), false) AS twice FROM "
        "(SELECT json_keys(line) AS keys FROM odd)",
        "odd",
        lines.take(odd),
    )
    reasons = dict.fromkeys(
        odd.filter(found["twice"].combine_chunks()).to_pylist(), "the object has the same key twice"
    )
    lists = found["keys"].combine_chunks()
    flat, parents = pc.list_flatten(lists), pc.list_parent_indices(lists)
    folded = {name.casefold(): name for name in names}
    known = set(names)
    unknown = []
    for key in (str(key) for key in pc.unique(flat).to_pylist() if key not in known):
        twin = folded.get(key.casefold())
        if re.search(_CONTROL, key):
            reason = f"the key {json.dumps(key)} has a control character"
        elif twin is not None:
            reason = f"the key '{key}' differs from the column '{twin}' only in upper and lower case"
        else:
            unknown.append(key)
            continue
        for place in pc.unique(parents.filter(pc.equal(flat, pa.scalar(key, flat.type)))).to_pylist():
            reasons.setdefault(odd[place].as_py(), reason)
    return reasons, tuple(_without_case_twins(unknown, names))


def _reason(kind: str) -> str:
    what = {"ARRAY": "an array", "VARCHAR": "a string", "NULL": "null", "BOOLEAN": "true or false"}
    return f"the line is not a JSON object but {what.get(kind, 'a number')}"


def _pointer(name: str) -> str:
    """RFC 6901; DuckDB's own path syntax has no escape for a quote in a key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
