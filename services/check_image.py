"""`python check_image.py SERVICE`: what was left in an image imports, links and works. Part of the image builds.

It runs in the finished image, as its user: a library that `slim.py` or `runtime.py` should have kept ends the build.
"""

import importlib
import pkgutil
import re
import ssl
import subprocess
import sys
import tempfile
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

# Asked for by name, at a time when a request is waiting.
LATE = {
    "chassis": ["alembic.command", "sqlalchemy.dialects.postgresql.asyncpg", "uvloop", "httptools", "aiokafka"],
    "gateway": [],
    "catalog": ["pymongo.asynchronous.mongo_client", "tantivy"],
    "ingest": ["pyarrow.dataset", "pyarrow.csv", "pyarrow.fs", "pyiceberg.io.pyarrow", "duckdb"],
    "lineage": [],
}


def modules(package: str) -> Iterator[str]:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith((".__main__", ".testing")):
            yield module.name


def check_imports(service: str) -> int:
    names = [*modules("lakegate_contracts"), *modules("lakegate_chassis"), *modules(f"lakegate_{service}")]
    names += [*LATE["chassis"], *LATE[service]]
    for name in names:
        importlib.import_module(name)
    return len(names)


def check_system() -> None:
    assert ssl.create_default_context().get_ca_certs(), "no authorities for TLS"
    zoneinfo.ZoneInfo("Europe/Berlin")
    assert Path(tempfile.gettempdir(), "x").write_text("x")


def check_gateway() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    key.public_key().verify(key.sign(b"x"), b"x")


def check_catalog() -> None:
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("name", stored=True).build()
    index = tantivy.Index(schema)
    writer = index.writer(heap_size=15_000_000, num_threads=1)
    writer.add_document(tantivy.Document(name="orders"))
    writer.commit()
    index.reload()
    assert index.searcher().search(index.parse_query("orders", ["name"])).count == 1


def check_ingest() -> None:
    """Text to Parquet by the engine's libraries, to a table's file by those of a commit, and back by a download's."""
    import duckdb
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.dataset as ds
    from obstore.store import LocalStore
    from pyiceberg.io.pyarrow import PyArrowFileIO, parquet_file_to_data_file
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import new_table_metadata
    from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
    from pyiceberg.types import LongType, NestedField, TimestamptzType

    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "at", TimestamptzType()))
    named = {"schema.name-mapping.default": schema.name_mapping.model_dump_json()}
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///tmp/t", named)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.parquet"
        Path(folder, "rows.csv").write_text("id,at\n1,2026-01-01T00:00:00Z\n2,2026-01-02T00:00:00Z\n")
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (FROM read_csv('{folder}/rows.csv')) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
            )
        table = ds.dataset(path).to_table(filter=ds.field("id") > 1)
        assert table.column("id").to_pylist() == [2]
        moment = pc.assume_timezone(pa.array([0], pa.timestamp("us")), "Europe/Berlin")
        assert pc.strftime(moment, "%H:%M").to_pylist() == ["00:00"]
        assert pyarrow.csv.read_csv(f"{folder}/rows.csv").num_rows == 2
        assert parquet_file_to_data_file(PyArrowFileIO({}), metadata, path).record_count == 2
        store = LocalStore(folder)
        store.put("copy", b"x")
        assert bytes(store.get("copy").bytes()) == b"x"


def unlinked() -> list[str]:
    """Objects that name a library which is not there. Asked of the loader itself: there is no ldd."""
    loader = next(Path("/lib64").glob("ld-linux*"), None) or next(Path("/lib").glob("ld-linux*"))
    found = []
    for root in {Path(path) for path in sys.path if "site-packages" in path or "lib-dynload" in path}:
        for item in sorted(root.rglob("*.so*")):
            told = subprocess.run([loader, "--list", item], capture_output=True, text=True, check=False)
            missing = re.findall(r"(\S+) => not found", told.stdout)
            if missing or told.returncode:
                found.append(f"{item}: {', '.join(missing) or told.stderr.strip()}")
    return found


def main(service: str) -> int:
    check_system()
    count = check_imports(service)
    check = {"gateway": check_gateway, "catalog": check_catalog, "ingest": check_ingest}.get(service)
    if check is not None:
        check()
    if problems := unlinked():
        print("\n".join(problems), file=sys.stderr)  # noqa: T201
        return 1
    print(f"{service}: {count} modules import, and what they link to is there")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
