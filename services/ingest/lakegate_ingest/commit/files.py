"""Files of a table, opened only below its own location, which is in its tenant's folder of the warehouse.

What a table's metadata and manifests name was written by clients: neither a path nor a property of theirs may decide
which file is opened, with which credentials, or by which code. Who may write one table could name the files of another
in a manifest of it, and read them as its rows.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile

from lakegate_chassis.objectstore import S3_SCHEMES
from lakegate_ingest.commit.manifests import decode_within_bounds
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import FileOutsideTable, TableFileMissing

QUARANTINE = "_quarantine"


class TableFiles(FileIO):
    """FileIO without any property of the table: credentials come from this process's own settings.

    `location` is the table's, as its metadata has it. Raises FileOutsideTable when it is not the tenant's.
    """

    def __init__(self, warehouse: Warehouse, tenant: str, location: str) -> None:
        super().__init__({})
        decode_within_bounds()
        self._warehouse = warehouse
        self._scheme, self._netloc, root = _parts(warehouse.location)
        raw = tuple(root.rstrip("/").split("/"))
        # a plain path has no escapes; a URL may have them
        self._roots = {(*raw, quote(tenant, safe="")), (*(unquote(part) for part in raw), tenant)}
        location = location.rstrip("/")
        self.check(location)
        _, _, path = _parts(location)
        own = tuple(path.split("/"))
        self._roots = {own, tuple(unquote(part) for part in own)}

    def new_input(self, location: str) -> InputFile:
        self.check(location)
        return _TableFile(self._warehouse.input(location))

    def new_output(self, location: str) -> OutputFile:
        self.check(location)
        return self._warehouse.output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        url = location if isinstance(location, str) else location.location
        self.check(url)
        self._warehouse.delete([url])

    def check(self, location: str) -> None:
        """Raises FileOutsideTable for what is not below the table's location."""
        if not self._is_inside(location):
            raise FileOutsideTable(
                f"The table names the file {location[:500]}, which is not in the table's own folder. It is not read. "
                "Load the file, or write it with an engine; files that are elsewhere can't be added to a table."
            )

    def _is_inside(self, location: str) -> bool:
        if any(character in location for character in "?#\\\0"):
            return False
        try:
            scheme, netloc, path = _parts(location)
        except ValueError:
            return False
        if (scheme, netloc) != (self._scheme, self._netloc):
            return False
        segments = tuple(path.split("/"))
        # some readers decode escapes and some don't: neither way may lead out
        decoded = unquote(unquote(path)).split("/")
        if any(segment in (".", "..") for segment in (*segments, *decoded)) or "" in segments[1:]:
            return False
        depth = len(next(iter(self._roots)))
        return segments[:depth] in self._roots and len(segments) > depth and unquote(segments[depth]) != QUARANTINE


class _TableFile(InputFile):
    """A file that a table names. Raises TableFileMissing where it is gone."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(file.location)
        self._file = file

    def __len__(self) -> int:
        try:
            return len(self._file)
        except FileNotFoundError as error:
            raise missing(self.location) from error

    def exists(self) -> bool:
        return self._file.exists()

    def open(self, seekable: bool = True) -> InputStream:
        try:
            return self._file.open(seekable)
        except FileNotFoundError as error:
            raise missing(self.location) from error


def missing(location: str) -> TableFileMissing:
    """What to raise for a file that a table names and that is gone."""
    name = location.rpartition("/")[2]
    kind = "data file"
    if name.endswith(".avro"):
        kind = "manifest list" if name.startswith("snap-") else "manifest"
    return TableFileMissing(
        f"The table's {kind} {location[:500]} is not in the warehouse any more: somebody deleted it there. "
        f"{TableFileMissing.MENDING}"
    )


def _parts(location: str) -> tuple[str, str, str]:
    if location.startswith("/"):
        return "file", "", location
    parts = urlsplit(location)
    scheme = parts.scheme.lower()
    return ("s3" if scheme in S3_SCHEMES else scheme), parts.netloc, parts.path
