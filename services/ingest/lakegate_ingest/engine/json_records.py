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

from lakegate_ingest.engine.batch import Batch, Broken, Records, positions_of
from lakegate_ingest.engine.types import literal, on

_VALID = "json_valid(line)"
_GROUP_KEYS = 200
INEXACT = "[0-9.]{16}|[eE]-[0-9]{3}"  # fifteen digits and a point come through a double; with e-324 nothing does
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
    comes as 1.1, and of more than fifteen digits some are others. `numbers` mind the value, `texts` the spelling."""

    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


NOTHING_EXACT = Exact()


def json_batch(
    block: Records,
    names: Sequence[str],
    connection: duckdb.DuckDBPyConnection,
    *,
    kinds: bool,
    exact: Exact = NOTHING_EXACT,
) -> Batch:
    """Columns c0, c1, …; with `kinds` also k0, k1, …: the first character of each value as JSON.

    A record whose keys are not just as many as its values (one is null, occurs twice or was not asked for)
    is looked at again; all others cost one look at their text.
    """
    raws, _ = block.records()
    lines = pa.table({"line": pa.array(raws, pa.binary()).cast(pa.string())})
    connection.register("lines", lines)
    try:
        found = _extract(names, connection, kinds, exact, guarded=False)
    except duckdb.InvalidInputException:  # one line that is no JSON fails it; asking each first costs half the speed
        found = _extract(names, connection, kinds, exact, guarded=True)
    finally:
        connection.unregister("lines")
    odd = pc.indices_nonzero(found["odd"].combine_chunks())
    bad_keys, unknown = _look_again(lines, odd, names, connection) if len(odd) else ({}, ())
    table, not_json = _as_written(found.drop_columns(["kind", "odd", "inexact"]), found["inexact"], raws, names, exact)
    bad_keys |= not_json
    if not bad_keys and pc.all(pc.equal(found["kind"], pa.scalar("OBJECT"))).as_py():
        return Batch(table, None, (), block, unknown)
    reasons = [bad_keys.get(index) or _reason(str(kind)) for index, kind in enumerate(found["kind"].to_pylist())]
    broken = tuple(Broken(index, reason) for index, reason in enumerate(reasons) if reason)
    table = table.filter(pa.array([not reason for reason in reasons], pa.bool_()))
    return Batch(table, positions_of(table.num_rows, broken), broken, block, unknown)


def _as_written(
    table: pa.Table, inexact: Any, raws: Sequence[bytes], names: Sequence[str], exact: Exact
) -> tuple[pa.Table, dict[int, str]]:
    """`table` with the numbers of the records that are `inexact` as they are written, and why some are no rows."""
    written: dict[int, dict[int, str]] = {}
    reasons: dict[int, str] = {}
    for index in pc.indices_nonzero(inexact.combine_chunks()).to_pylist():
        try:
            record = json.loads(raws[index], parse_float=_Number, parse_int=str, parse_constant=_refuse)
        except (ValueError, RecursionError):
            reasons[index] = _reason("INVALID")
            continue
        for position, name in enumerate(names if isinstance(record, dict) else ()):
            value = record.get(name)
            if isinstance(value, _Number) and (name in exact.texts or name in exact.numbers):
                written.setdefault(position, {})[index] = str(value)
    for position, texts in written.items():
        column = table[f"c{position}"].combine_chunks()
        mask = pc.is_in(pa.array(range(len(column)), pa.int64()), value_set=pa.array(sorted(texts), pa.int64()))
        values = pa.array([texts[index] for index in sorted(texts)], column.type)
        place = table.column_names.index(f"c{position}")
        table = table.set_column(place, f"c{position}", pc.replace_with_mask(column, mask, values))
    return table, reasons


class _Number(str):
    """A number with a point or an exponent, as it is written."""

    __slots__ = ()


def _refuse(word: str) -> str:
    raise ValueError(word)


def keys_of(block: Records, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The keys of all objects of a block, in order of appearance."""
    raws, _ = block.records()
    connection.register("lines", pa.table({"line": pa.array(raws, pa.binary()).cast(pa.string())}))
    keys = connection.execute(
        f"SELECT unnest(json_keys(line)) AS key FROM lines WHERE CASE WHEN {_VALID} THEN json_type(line) = 'OBJECT' END"
    ).to_arrow_table()
    connection.unregister("lines")
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
    names: Sequence[str], connection: duckdb.DuckDBPyConnection, kinds: bool, exact: Exact, *, guarded: bool
) -> pa.Table:
    """Columns kind, odd, inexact, c0, …; some keys at a time, for DuckDB's memory and its limit on expressions."""
    columns: dict[str, Any] = {}
    present: Any = None
    inexact: Any = None
    for start in range(0, max(len(names), 1), _GROUP_KEYS):
        part = connection.execute(
            _statement(names[start : start + _GROUP_KEYS], kinds, exact, first=start, guarded=guarded)
        ).to_arrow_table()
        present = part["present"] if present is None else pc.add(present, part["present"])
        inexact = part["inexact"] if inexact is None else pc.or_(inexact, part["inexact"])
        columns |= {name: part[name] for name in part.column_names if start == 0 or name not in ("kind", "keys")}
    odd = pc.not_equal(pc.fill_null(columns.pop("keys"), 0), present)
    del columns["present"], columns["inexact"]
    return pa.table({"odd": odd, "inexact": inexact, **columns})


def _statement(names: Sequence[str], kinds: bool, exact: Exact, *, first: int, guarded: bool) -> str:
    paths = ", ".join(literal(_pointer(name)) for name in names)
    values = f"{'json_extract' if kinds else 'json_extract_string'}(line, [{paths}]::VARCHAR[])"
    kind, keys = "json_type(line)", "len(json_keys(line))"
    if guarded:
        kind = f"CASE WHEN {_VALID} THEN {kind} ELSE 'INVALID' END"
        keys = f"CASE WHEN {_VALID} THEN {keys} END"
        values = f"CASE WHEN {_VALID} THEN {values} END"
    columns = []
    places = range(first, first + len(names))
    for position in places:
        value = f"v[{position - first + 1}]"
        if kinds:
            columns.append(f"nullif({value}::VARCHAR, 'null') AS j{position}")
        else:
            columns.append(f"{value} AS c{position}")
    doubts = [] if kinds else [_doubt(f"c{place}", name, exact) for place, name in zip(places, names, strict=True)]
    present = " + ".join(f"({'j' if kinds else 'c'}{position} IS NOT NULL)::INT" for position in places)
    inner = f"SELECT line, {kind} AS kind, {keys} AS keys, {values} AS v FROM lines"
    middle = f"SELECT {', '.join(['line', 'kind', 'keys', *columns])} FROM ({inner})"
    outer = [f"c{position}" for position in places]
    if kinds:
        outer = [
            f"CASE WHEN left(j{position}, 1) = '\"' THEN substr(j{position}, 2, length(j{position}) - 2) "
            f"ELSE j{position} END AS c{position}, left(j{position}, 1) AS k{position}"
            for position in places
        ]
    inexact = f"coalesce({' OR '.join(doubts) or 'false'}, false) AS inexact"
    return f"SELECT {', '.join(['kind', 'keys', inexact, f'{present or 0} AS present', *outer])} FROM ({middle})"


def _doubt(value: str, name: str, exact: Exact) -> str:
    """SQL: whether a value may not be what is written, or be a word that is no JSON. Asks the JSON only if it must."""
    cheap = f"(strlen({value}) BETWEEN 3 AND 9 AND regexp_full_match({value}, {_NO_JSON}))"
    if name in exact.texts or name in exact.numbers:
        fraction = f"{value} >= '-' AND {value} < ':' AND (contains({value}, '.') OR contains({value}, 'e'))"
        if name not in exact.texts:
            fraction += f" AND regexp_matches(line, '{INEXACT}')"
        cheap = f"{cheap} OR ({fraction})"
    doubt = f"CASE WHEN {cheap} THEN json_type(line, {literal(_pointer(name))}) = 'DOUBLE' ELSE false END"
    return f"({doubt} OR {on(NESTED_DOUBT, value)})" if name in exact.texts else doubt


def _look_again(
    lines: pa.Table, odd: Any, names: Sequence[str], connection: duckdb.DuckDBPyConnection
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Of the records `odd`: why those with an impossible key are no rows, and the keys that were not asked for."""
    connection.register("odd", lines.take(odd))
    found = connection.execute(
        "SELECT keys, coalesce(len(keys) <> len(list_distinct(keys)), false) AS twice FROM "
        f"(SELECT CASE WHEN {_VALID} THEN json_keys(line) END AS keys FROM odd)"
    ).to_arrow_table()
    connection.unregister("odd")
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
    if kind == "OBJECT":
        return ""
    if kind == "INVALID":
        return "the line is not valid JSON"
    what = {"ARRAY": "an array", "VARCHAR": "a string", "NULL": "null", "BOOLEAN": "true or false"}
    return f"the line is not a JSON object but {what.get(kind, 'a number')}"


def _pointer(name: str) -> str:
    """RFC 6901; DuckDB's own path syntax has no escape for a quote in a key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
