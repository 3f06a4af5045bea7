"""Where the bytes of a body go: hashed as sent, decoded, counted, written. Synchronous; runs in the spool's threads."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from uuid import UUID

from lakegate_ingest.errors import BadFileName, SpoolFull
from lakegate_ingest.settings import BodySettings
from lakegate_ingest.spool.decoding import Decoder, Identity, decoder_by_magic
from lakegate_ingest.spool.folders import Spool

HEAD_BYTES = 64 << 10
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Counter(Protocol):
    """Counts records independently of the engine that reads them later."""

    def feed(self, data: bytes) -> None: ...

    def finish(self) -> int: ...

    @property
    def malformed(self) -> bool: ...


# (file name, content type, first bytes) -> the format's name and a counter for it
Opener = Callable[[str, str, bytes], tuple[str, Counter | None]]


@dataclass(frozen=True)
class SpooledFile:
    """One received file. `sha256` and `sent_bytes` are of what the client sent, `size_bytes` of what lies on disk."""

    name: str
    path: Path
    format: str
    content_type: str
    sha256: str
    sent_bytes: int
    size_bytes: int
    counter: Counter | None


class FileSink:
    """One file on its way to the spool. `transport` undoes Content-Encoding; without one, magic bytes tell.

    `expected_bytes` is what the client said it will send: then an old file of the spool may be written over.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        load_id: UUID,
        path: Path,
        name: str,
        content_type: str,
        limits: BodySettings,
        opener: Opener,
        transport: Decoder | None = None,
        expected_bytes: int | None = None,
    ) -> None:
        self._spool = spool
        self._load_id = load_id
        self._path = path
        self._name = checked_name(name, limits.max_name_chars)
        self._content_type = content_type
        self._limits = limits
        self._opener = opener
        self._sha256 = hashlib.sha256()
        self._sent_bytes = 0
        self._size_bytes = 0
        self._decoder = transport
        self._raw_head = b""
        self._head: list[bytes] | None = []
        self._head_bytes = 0
        self._format = ""
        self._counter: Counter | None = None
        self._followers: list[Callable[[int], None]] = []
        self._on_disk = 0
        self._fd = _open(path, is_there=spool.reuse.take(path, expected_bytes))

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Take what was received; raises BodyError and SpoolFull."""
        for chunk in chunks:
            self._sha256.update(chunk)
            self._sent_bytes += len(chunk)
        if isinstance(self._decoder, Identity):
            self._write(chunks)
            return
        for chunk in chunks:
            if self._decoder is None:
                self._raw_head += chunk
                if len(self._raw_head) < 4:
                    continue
                chunk = self._choose_decoder()
            for out in self._decoder_now().feed(chunk):
                self._write((out,))

    def follow(self, advance: Callable[[int], None]) -> None:
        """Tell of every write from now on, and of what is on disk already: its size in bytes."""
        self._followers.append(advance)
        advance(self._on_disk)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def as_sent(self) -> bool:
        """Whether the file on disk will be byte for byte what is sent."""
        return isinstance(self._decoder, Identity)

    @property
    def begun(self) -> SpooledFile | None:
        """The file as far as it is known, once its first bytes have named its format."""
        if self._head is not None:
            return None
        return self._described()

    def _choose_decoder(self) -> bytes:
        self._decoder = decoder_by_magic(self._raw_head, self._limits) or Identity()
        head, self._raw_head = self._raw_head, b""
        return head

    def _decoder_now(self) -> Decoder:
        assert self._decoder is not None
        return self._decoder

    def _write(self, chunks: Sequence[bytes]) -> None:
        size = sum(map(len, chunks))
        self._spool.grow(self._load_id, size)
        self._size_bytes += size
        if self._head is not None:
            self._head.extend(chunks)
            self._head_bytes += size
            if self._head_bytes >= HEAD_BYTES:
                self._begin()
        elif self._counter is not None:
            for chunk in chunks:
                self._counter.feed(chunk)
        try:
            self._write_all(chunks)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise SpoolFull(
                    "The disk of the spool has no space left. Nothing was loaded; try again later."
                ) from error
            raise
        self._on_disk = self._size_bytes
        for advance in self._followers:
            advance(self._on_disk)

    def _write_all(self, chunks: Sequence[bytes]) -> None:
        try:
            _write_all(self._fd, chunks)
        except OSError as error:
            if error.errno not in NO_SPACE or not self._spool.reuse.clear():
                raise
            os.lseek(self._fd, self._on_disk, os.SEEK_SET)
            _write_all(self._fd, chunks)

    def _begin(self) -> None:
        """The head is there: name the format, and count from the first byte on."""
        assert self._head is not None
        head = b"".join(self._head)
        self._format, self._counter = self._opener(self._name, self._content_type, head)
        if self._counter is not None:
            self._counter.feed(head)
        self._head = None  # last: `begun` is asked by another thread

    def close(self) -> SpooledFile:
        """The whole file has arrived. Raises BodyError when it stops short."""
        if self._decoder is None:
            head = self._choose_decoder()
            for out in self._decoder_now().feed(head):
                self._write((out,))
        self._decoder_now().finish()
        if self._head is not None:
            self._begin()
        os.ftruncate(self._fd, self._size_bytes)
        self.abort()
        return self._described()

    def _described(self) -> SpooledFile:
        return SpooledFile(
            name=self._name,
            path=self._path,
            format=self._format,
            content_type=self._content_type,
            sha256=self._sha256.hexdigest(),
            sent_bytes=self._sent_bytes,
            size_bytes=self._size_bytes,
            counter=self._counter,
        )

    def abort(self) -> None:
        """Close the file as it is; the folder's owner removes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class HashSink:
    """Only the hash of a file: to compare a repeated Idempotency-Key's body with the first one, without keeping it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sha256 = hashlib.sha256()

    def feed(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self._sha256.update(chunk)

    def close(self) -> SpooledFile:
        return SpooledFile(self._name, Path(), "", "", self._sha256.hexdigest(), 0, 0, None)

    def abort(self) -> None:
        return


def checked_name(name: str, max_chars: int) -> str:
    """The last part of a file name, as a label: it never becomes a path. Raises BadFileName."""
    label = PurePosixPath(name.replace("\\", "/")).name.strip()
    if label in ("", ".."):
        # The lineage of a load names its files: without a name there would be none.
        raise BadFileName(f"'{name[:100]}' names no file. Send a name such as orders.csv, or leave ?name= out.")
    if len(label) > max_chars:
        raise BadFileName(f"A file name has at most {max_chars} characters; this one has {len(label):,}.")
    if not label.isprintable():
        raise BadFileName("A file name must not contain control characters.")
    return label


def _open(path: Path, *, is_there: bool) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | (0 if is_there else os.O_CREAT | os.O_EXCL), 0o600)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise SpoolFull("The disk of the spool has no space left. Nothing was loaded; try again later.") from error
        raise


def _write_all(fd: int, chunks: Sequence[bytes]) -> None:
    """writev without a copy; what a short write leaves is written one by one."""
    for start in range(0, len(chunks), 512):  # IOV_MAX is 1,024 on Linux
        group = chunks[start : start + 512]
        written = os.writev(fd, group)
        for chunk in group:
            if written >= len(chunk):
                written -= len(chunk)
                continue
            rest = memoryview(chunk)[written:]
            written = 0
            while rest:
                rest = rest[os.write(fd, rest) :]
