"""Blocks of JSON records (lines, or elements of an array) as text columns, one for each key asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.batch import Batch, Broken, Records, positions_of
from lakegate_ingest.engine.types import literal

_VALID = "json_valid(line)"


def json_batch(block: Records, names: Sequence[str], connection: duckdb.DuckDBPyConnection, *, kinds: bool) -> Batch:
    """Columns c0, c1, …; with `kinds` also k0, k1, …: the first character of each value as JSON.

    A record whose keys are not just as many as its values (one is null, occurs twice or was not asked for)
    is looked at again; all others cost one look at their text.
    """
    raws, _ = block.records()
    lines = pa.table({"line": pa.array(raws, pa.binary()).cast(pa.string())})
    connection.register("lines", lines)
    try:
        found = connection.execute(_statement(names, kinds, guarded=False)).to_arrow_table()
    except duckdb.Error:  # one line that is no JSON fails the statement; asking each first costs half the speed
        found = connection.execute(_statement(names, kinds, guarded=True)).to_arrow_table()
    finally:
        connection.unregister("lines")
    odd = pc.indices_nonzero(found["odd"].combine_chunks())
    twice, unknown = _look_again(lines, odd, names, connection) if len(odd) else (frozenset(), ())
    table = found.drop_columns(["kind", "odd"])
    if not twice and pc.all(pc.equal(found["kind"], pa.scalar("OBJECT"))).as_py():
        return Batch(table, None, (), block, unknown)
    reasons = [
        "the object has the same key twice" if index in twice else _reason(str(kind))
        for index, kind in enumerate(found["kind"].to_pylist())
    ]
    broken = tuple(Broken(index, reason) for index, reason in enumerate(reasons) if reason)
    table = table.filter(pa.array([not reason for reason in reasons], pa.bool_()))
    return Batch(table, positions_of(table.num_rows, broken), broken, block, unknown)


def keys_of(block: Records, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The keys of all objects of a block, in order of appearance."""
    raws, _ = block.records()
    connection.register("lines", pa.table({"line": pa.array(raws, pa.binary()).cast(pa.string())}))
    keys = connection.execute(
        f"SELECT unnest(json_keys(line)) AS key FROM lines WHERE CASE WHEN {_VALID} THEN json_type(line) = 'OBJECT' END"
    ).to_arrow_table()
    connection.unregister("lines")
    return [str(key) for key in pc.unique(keys["key"]).to_pylist()]


def _statement(names: Sequence[str], kinds: bool, *, guarded: bool) -> str:
    paths = ", ".join(literal(_pointer(name)) for name in names)
    values = f"{'json_extract' if kinds else 'json_extract_string'}(line, [{paths}]::VARCHAR[])"
    kind, keys = "json_type(line)", "len(json_keys(line))"
    if guarded:
        kind = f"CASE WHEN {_VALID} THEN {kind} ELSE 'INVALID' END"
        keys = f"CASE WHEN {_VALID} THEN {keys} END"
        values = f"CASE WHEN {_VALID} THEN {values} END"
    columns = []
    for position in range(len(names)):
        value = f"v[{position + 1}]"
        if kinds:
            columns.append(f"nullif({value}::VARCHAR, 'null') AS j{position}")
        else:
            columns.append(f"{value} AS c{position}")
    present = " + ".join(f"({'j' if kinds else 'c'}{position} IS NOT NULL)::INT" for position in range(len(names)))
    inner = f"SELECT {kind} AS kind, {keys} AS keys, {values} AS v FROM lines"
    middle = f"SELECT {', '.join(['kind', 'keys', *columns])} FROM ({inner})"
    outer = [f"c{position}" for position in range(len(names))]
    if kinds:
        outer = [
            f"CASE WHEN left(j{position}, 1) = '\"' THEN substr(j{position}, 2, length(j{position}) - 2) "
            f"ELSE j{position} END AS c{position}, left(j{position}, 1) AS k{position}"
            for position in range(len(names))
        ]
    odd = f"coalesce(keys, 0) <> {present or '0'} AS odd"
    return f"SELECT {', '.join(['kind', odd, *outer])} FROM ({middle})"


def _look_again(
    lines: pa.Table, odd: Any, names: Sequence[str], connection: duckdb.DuckDBPyConnection
) -> tuple[frozenset[int], tuple[str, ...]]:
    """Of the records `odd`: those that have a key twice, and the keys that were not asked for."""
    connection.register("odd", lines.take(odd))
    found = connection.execute(
        "SELECT keys, coalesce(len(keys) <> len(list_distinct(keys)), false) AS twice FROM "
        f"(SELECT CASE WHEN {_VALID} THEN json_keys(line) END AS keys FROM odd)"
    ).to_arrow_table()
    connection.unregister("odd")
    twice = odd.filter(found["twice"].combine_chunks()).to_pylist()
    known = set(names)
    keys = pc.unique(pc.list_flatten(found["keys"])).to_pylist()
    return frozenset(twice), tuple(str(key) for key in keys if key not in known)


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
