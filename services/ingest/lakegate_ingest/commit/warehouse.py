"""Files in the warehouse, by URL: moved in, opened, listed and deleted; a local folder or an object store."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import ObjectStore
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakegate_chassis.objectstore import S3_SCHEMES, ObjectStoreSettings, is_local, open_store
from lakegate_ingest.commit.objects import ObjectInput, ObjectOutput, delete_keys, store_errors
from lakegate_ingest.errors import SpoolFull

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# Parts of a file on its way in: two at once, so that a load takes 32 MB beyond its engine's memory.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 2


def no_space() -> SpoolFull:
    return SpoolFull("The warehouse's disk has no space left. Nothing was committed; try again later.")


def join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/"), *parts])


def local_path(url: str) -> Path:
    """The path behind a file:// URL, or a bare path."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(url)


class Warehouse:
    """The folder that holds the folders of all tenants. Methods block: call them in a thread.

    `store` is None for a local folder. Its keys are relative to `location`.
    """

    def __init__(self, location: str, objects: ObjectStoreSettings) -> None:
        self.location = location.rstrip("/")
        # a local folder is made by whoever writes the first file
        remote = not is_local(self.location) or objects.url is not None
        self.store: ObjectStore | None = open_store(self.location, objects) if remote else None

    def key(self, url: str) -> str:
        """The key of a URL below the location. Raises ValueError for any other."""
        for spelled in _spellings(url):
            if spelled.startswith(f"{self.location}/"):
                return spelled[len(self.location) + 1 :]
        raise ValueError(f"{url[:500]} is not below {self.location}")

    def input(self, url: str) -> InputFile:
        """Any file, checked by nobody: what a table names goes through TableFiles."""
        if self.store is None:
            return PyArrowFileIO({}).new_input(url)
        return ObjectInput(url, self.store, self.key(url))

    def output(self, url: str) -> OutputFile:
        if self.store is None:
            return PyArrowFileIO({}).new_output(url)
        return ObjectOutput(url, self.store, self.key(url))

    def move_in(self, source: Path, url: str) -> None:
        """Put a local file at `url`, once: a file that is there already from an earlier attempt stays.

        Raises SpoolFull without space, StoreUnavailable, and FileNotFoundError when neither side has the file.
        """
        if self.store is None:
            try:
                _move(source, local_path(url))
            except OSError as error:
                if error.errno in NO_SPACE:
                    raise no_space() from error
                raise
        elif source.exists():
            with source.open("rb") as file, store_errors():
                obstore.put(self.store, self.key(url), file, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
            source.unlink()
        elif not self.exists(url):
            raise FileNotFoundError(url)

    def exists(self, url: str) -> bool:
        if self.store is None:
            return local_path(url).exists()
        return self.input(url).exists()

    def delete(self, urls: Iterable[str]) -> int:
        """Delete what is there; returns how many files there were (in an object store: how many were named)."""
        if self.store is not None:
            keys = [self.key(url) for url in urls]
            delete_keys(self.store, keys)
            return len(keys)
        return sum(_delete(local_path(url)) for url in urls)

    def list_prefix(self, folder: str, name_prefix: str) -> list[str]:
        """The URLs in `folder` whose names begin so."""
        if self.store is None:
            path = local_path(folder)
            if not path.is_dir():
                return []
            return [join(folder, entry.name) for entry in path.iterdir() if entry.name.startswith(name_prefix)]
        found = []
        with store_errors():
            for page in obstore.list(self.store, prefix=self.key(folder)):
                found += [item["path"].rpartition("/")[2] for item in page]
        return [join(folder, name) for name in found if name.startswith(name_prefix)]


def _spellings(url: str) -> Iterable[str]:
    """As it is, and as the plain s3:// that s3a:// and s3n:// mean."""
    yield url
    scheme, separator, rest = url.partition("://")
    if scheme in S3_SCHEMES:
        yield f"s3{separator}{rest}"


def _move(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_in(source, target)


def _copy_in(source: Path, target: Path) -> None:
    """Across file systems: a rename at the end keeps a half-copied file from ever having the name."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(target)
    source.unlink()


def _delete(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _remove_if_empty(path.parent)
    return True


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise
