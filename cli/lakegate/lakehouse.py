"""Tables read back as anybody reads them: PyIceberg through the gateway's Iceberg REST endpoint, DuckDB on top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lakegate.failures import REFUSED, UNREACHABLE, USAGE, CommandFailed
from lakegate.profiles import Profile

if TYPE_CHECKING:
    from pyiceberg.table import Table

WAREHOUSE = "lakehouse"
_NUMERIC = re.compile(r"(U|HUGE|U?TINY|U?SMALL|U?BIG)?INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT|UHUGEINT")


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
        except ImportError as error:
            raise CommandFailed(
                f"{error.name} is not installed.",
                hint="pip install 'lakegate[suite]' brings what `lakegate sql` needs.",
            ) from error
        import requests

        properties = {"uri": f"{profile.url}/iceberg", "warehouse": WAREHOUSE}
        if profile.key is not None:
            properties["token"] = profile.key
        try:
            self._catalog = RestCatalog("lakegate", **properties)
        except requests.ConnectionError as error:
            raise CommandFailed(
                f"{profile.url} did not answer.",
                hint="Is the suite running? `lakegate status` tells.",
                code=UNREACHABLE,
            ) from error
        self._duckdb = duckdb.connect()

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
            columns = [(item[0], bool(_NUMERIC.fullmatch(str(item[1])))) for item in result.description]
            rows = result.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise CommandFailed(str(error), code=USAGE) from error
        return Answer(columns, rows[:limit], truncated=len(rows) > limit)

    def _named(self, query: str) -> set[tuple[str, str]]:
        """Namespace and table of what the query names, from DuckDB's own parser (get_table_names would bind too).

        Raises CommandFailed for what is no query.
        """
        [answer] = self._duckdb.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ["{}"]
        parsed = json.loads(answer)
        if parsed.get("error"):
            what = parsed.get("error_message", "")
            if parsed.get("error_type") == "not implemented":
                what = "Only queries can be asked: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE."
            raise CommandFailed(what, code=USAGE)
        return set(_tables(parsed))

    def _offer(self, name: tuple[str, str], source: str) -> None:
        """Make an Iceberg table known under the name that the query uses."""
        from pyiceberg.exceptions import ForbiddenError, NoSuchTableError, UnauthorizedError

        namespace, table = name
        try:
            loaded = self._catalog.load_table((*namespace.split("."), table))
        except NoSuchTableError as error:
            raise CommandFailed(
                f"There is no table {namespace}.{table}.", hint="`lakegate ls` lists what is there.", code=REFUSED
            ) from error
        except (ForbiddenError, UnauthorizedError) as error:
            raise CommandFailed(str(error), code=REFUSED) from error
        self._duckdb.register(source, _Rows(loaded))
        self._duckdb.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(namespace)}")
        self._duckdb.execute(f"CREATE VIEW {_quoted(namespace)}.{_quoted(table)} AS SELECT * FROM {source}")


def _tables(node: Any) -> Iterator[tuple[str, str]]:
    """The qualified tables in DuckDB's syntax tree. A name without a namespace is a CTE or DuckDB's own."""
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node.get("schema_name"):
            if node.get("catalog_name"):
                full = f"{node['catalog_name']}.{node['schema_name']}"
                raise CommandFailed(
                    f'A namespace of several levels needs double quotes: "{full}".{node["table_name"]}', code=USAGE
                )
            yield node["schema_name"], node["table_name"]
        for value in node.values():
            yield from _tables(value)
    elif isinstance(node, list):
        for value in node:
            yield from _tables(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
