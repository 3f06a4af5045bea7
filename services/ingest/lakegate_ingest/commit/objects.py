"""Files of an object store as pyiceberg and pyarrow read and write them: ranged reads, one put at the end."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream

from lakegate_chassis.logs import log
from lakegate_ingest.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# A footer, a manifest, a small column: one request each.
BUFFER_BYTES = 1 << 20
DELETE_BATCH = 1000


@contextmanager
def store_errors() -> Iterator[None]:
    """A store that can't be reached, or refuses us, is StoreUnavailable; FileNotFoundError stays what it is."""
    try:
        yield
    except BaseError as error:
        log.warning("object_store_error", reason=str(error)[:1000])
        raise StoreUnavailable(
            "The warehouse's object store does not answer as it should. Try again shortly."
        ) from error


def delete_keys(store: ObjectStore, keys: Sequence[str]) -> None:
    """Delete what is there of them. S3 is content with keys that are gone; GCS and Azure are not. Blocks."""
    for start in range(0, len(keys), DELETE_BATCH):
        batch = keys[start : start + DELETE_BATCH]
        with store_errors():
            try:
                obstore.delete(store, batch)
            except FileNotFoundError:
                for key in batch:
                    with suppress(FileNotFoundError):
                        obstore.delete(store, key)


class ObjectInput(InputFile):
    """A file of the store under its URL."""

    def __init__(self, location: str, store: ObjectStore, key: str) -> None:
        super().__init__(location)
        self._store = store
        self._key = key
        self._size: int | None = None

    def __len__(self) -> int:
        """Its size in bytes. Raises FileNotFoundError."""
        if self._size is None:
            with store_errors():
                self._size = obstore.head(self._store, self._key)["size"]
        return self._size

    def exists(self) -> bool:
        try:
            len(self)
        except FileNotFoundError:
            return False
        return True

    def open(self, seekable: bool = True) -> InputStream:
        raw: Any = _Ranges(self._store, self._key, len(self))
        return io.BufferedReader(raw, BUFFER_BYTES)


class ObjectOutput(OutputFile):
    """A file to be written whole: nothing is there before `close`, and it is small (manifests, not data)."""

    def __init__(self, location: str, store: ObjectStore, key: str) -> None:
        super().__init__(location)
        self._store = store
        self._key = key

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        return ObjectInput(self.location, self._store, self._key)

    def create(self, overwrite: bool = False) -> OutputStream:
        return _Whole(self._store, self._key, overwrite=overwrite)


class _Ranges(io.RawIOBase):
    """Each read is one ranged request."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        with store_errors():
            found = memoryview(obstore.get_range(self._store, self._key, start=self._at, end=end))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


class _Whole(io.BytesIO):
    def __init__(self, store: ObjectStore, key: str, *, overwrite: bool) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._overwrite = overwrite

    def close(self) -> None:
        if self.closed:
            return
        with store_errors():
            obstore.put(self._store, self._key, self.getvalue(), mode="overwrite" if self._overwrite else "create")
        super().close()
