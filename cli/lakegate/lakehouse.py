"""Tables read back as anybody reads them: PyIceberg through the gateway's Iceberg REST endpoint, DuckDB on top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lakegate.failures import NOT_ALLOWED, REFUSED, SERVICE_FAILED, UNREACHABLE, USAGE, CommandFailed
from lakegate.profiles import Profile

if TYPE_CHECKING:
    from pyiceberg.table import Table

WAREHOUSE = "lakehouse"
_BATCH_ROWS = 10_000
_NUMERIC = re.compile(r"(U|HUGE|U?TINY|U?SMALL|U?BIG)?INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT|UHUGEINT")
_QUOTE_NAMESPACE = 'A namespace of several levels needs double quotes: "{full}".{table}'
# Arrow has no integers of 128 bits: DuckDB hands these over as decimals.
_WIDE = ("HUGEINT", "UHUGEINT")


@dataclass(frozen=True)
class Answer:
    """A bounded result; `columns` are names and whether they hold numbers."""

    columns: list[tuple[str, bool]]
    rows: list[tuple[Any, ...]]
    truncated: bool

    def document(self) -> dict[str, Any]:
        """For --json: rows as objects."""
        names = [name for name, _ in self.columns]
        return {
            "columns": names,
            "rows": [dict(zip(names, row, strict=True)) for row in self.rows],
            "truncated": self.truncated,
        }


class _Rows:
    """A table as an Arrow stream that can be begun again: DuckDB scans it once for each place where it is named."""

    def __init__(self, table: Table) -> None:
        self._scan = table.scan()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._scan.to_arrow_batch_reader().__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]

    def __arrow_c_schema__(self) -> object:
        return self._scan.projection().as_arrow().__arrow_c_schema__()


class Lakehouse:
    """A DuckDB in memory whose tables come from one gateway."""

    def __init__(self, profile: Profile) -> None:
        try:
            import duckdb
            from pyiceberg.catalog.rest import RestCatalog
            from pyiceberg.exceptions import RESTError
        except ImportError as error:
            raise CommandFailed(
                f"{error.name} is not installed.",
                hint="pip install 'lakegate[suite]' brings what `lakegate sql` needs.",
            ) from error
        import requests

        from lakegate.client.connection import checked_key, checked_url

        properties = {"uri": f"{checked_url(profile.url)}/iceberg", "warehouse": WAREHOUSE}
        if profile.key is not None:
            properties["token"] = checked_key(profile.key)
        try:
            self._catalog = RestCatalog("lakegate", **properties)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise CommandFailed(
                f"{profile.url} did not answer.",
                hint="Is the suite running? `lakegate status` tells.",
                code=UNREACHABLE,
            ) from error
        except (RESTError, requests.RequestException, ValueError) as error:
            raise _refused(error, profile.url) from error
        self._url = profile.url
        self._duckdb = duckdb.connect()
        # As everything here: an answer must not depend on where it is asked.
        self._duckdb.execute("SET TimeZone = 'UTC'")

    def __enter__(self) -> Lakehouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duckdb.close()

    def ask(self, query: str, limit: int) -> Answer:
        """Run one SELECT over the tables that it names. Raises CommandFailed with DuckDB's words."""
        import duckdb

        try:
            for number, name in enumerate(sorted(self._named(query))):
                self._offer(name, f"lakegate_source_{number}")
            result = self._duckdb.execute(query)
            if result is None or result.description is None:
                return Answer([], [], truncated=False)
            types = [str(item[1]) for item in result.description]
            names = [str(item[0]) for item in result.description]
            rows = _fetch(result, types, limit + 1)
        except duckdb.Error as error:
            raise CommandFailed(str(error), code=USAGE) from error
        columns = [(name, bool(_NUMERIC.fullmatch(kind))) for name, kind in zip(names, types, strict=True)]
        return Answer(columns, rows[:limit], truncated=len(rows) > limit)

    def _named(self, query: str) -> set[tuple[str, str]]:
        """Namespace and table of what the query names, from DuckDB's own parser (get_table_names would bind too).

        Raises CommandFailed for what is no query.
        """
        [answer] = self._duckdb.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ["{}"]
        parsed = json.loads(answer)
        if parsed.get("error"):
            what = parsed.get("error_message", "")
            if "NameListToString" in what:
                # DuckDB's words for a name of more than three parts.
                what = _QUOTE_NAMESPACE.format(full="a.b.c", table="table")
            if parsed.get("error_type") == "not implemented":
                what = "Only queries can be asked: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE."
            raise CommandFailed(what, code=USAGE)
        if not parsed.get("statements"):
            raise CommandFailed(
                "There is no query in it.", hint="It looks like 'SELECT * FROM namespace.table'.", code=USAGE
            )
        if len(parsed["statements"]) > 1:
            raise CommandFailed("There are several queries in it; ask one at a time.", code=USAGE)
        return set(_tables(parsed))

    def _offer(self, name: tuple[str, str], source: str) -> None:
        """Make an Iceberg table known under the name that the query uses."""
        import requests
        from pyiceberg.exceptions import NoSuchTableError, RESTError

        namespace, table = name
        try:
            loaded = self._catalog.load_table((*namespace.split("."), table))
        except NoSuchTableError as error:
            raise CommandFailed(
                f"There is no table {namespace}.{table}.", hint="`lakegate ls` lists what is there.", code=REFUSED
            ) from error
        except (RESTError, requests.RequestException) as error:
            raise _refused(error, self._url) from error
        self._duckdb.register(source, _Rows(loaded))
        self._duckdb.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(namespace)}")
        self._duckdb.execute(f"CREATE VIEW {_quoted(namespace)}.{_quoted(table)} AS SELECT * FROM {source}")


def _refused(error: Exception, url: str) -> CommandFailed:
    """PyIceberg's errors in our words; a ValueError is an answer that is none of an Iceberg catalog."""
    from pyiceberg.exceptions import ForbiddenError, RESTError, ServerError, UnauthorizedError

    if isinstance(error, ForbiddenError | UnauthorizedError):
        # PyIceberg puts the name of its exception before the server's words.
        said = str(error).split(": ", 1)[-1]
        return CommandFailed(said, hint="Check LAKEGATE_KEY, or the key of the profile.", code=NOT_ALLOWED)
    if isinstance(error, ServerError):
        return CommandFailed(str(error), code=SERVICE_FAILED)
    if isinstance(error, RESTError):
        return CommandFailed(str(error), code=REFUSED)
    return CommandFailed(f"{url} does not answer as an Iceberg catalog.", hint="Is it a gateway's address?")


def _fetch(result: Any, types: list[str], count: int) -> list[tuple[Any, ...]]:
    """The first rows as Python values, by way of Arrow: DuckDB's own way needs pytz for a timestamp with a zone."""
    import pyarrow as pa

    rows: list[tuple[Any, ...]] = []
    with result.to_arrow_reader(min(count, _BATCH_ROWS)) as reader:
        for batch in reader:
            part = batch.slice(0, count - len(rows))
            columns = []
            for kind, column in zip(types, part.columns, strict=True):
                # Python's datetime ends at microseconds.
                exact = column.cast(pa.string()) if column.type == pa.timestamp("ns") else column
                values = exact.to_pylist()
                columns.append([None if v is None else int(v) for v in values] if kind in _WIDE else values)
            rows += zip(*columns, strict=True)
            if len(rows) >= count:
                break
    return rows


def _tables(node: Any) -> Iterator[tuple[str, str]]:
    """The qualified tables in DuckDB's syntax tree. A name without a namespace is a CTE or DuckDB's own."""
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node.get("schema_name"):
            if node.get("catalog_name"):
                full = f"{node['catalog_name']}.{node['schema_name']}"
                raise CommandFailed(_QUOTE_NAMESPACE.format(full=full, table=node["table_name"]), code=USAGE)
            yield node["schema_name"], node["table_name"]
        for value in node.values():
            yield from _tables(value)
    elif isinstance(node, list):
        for value in node:
            yield from _tables(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
