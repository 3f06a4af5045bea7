"""Files in the warehouse, by URL (file:// now, s3:// by configuration): moved in, listed and deleted."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import ObjectStore, from_url

from lakegate_ingest.errors import SpoolFull

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def local_path(url: str) -> Path | None:
    """The path behind a file:// URL (or a bare path), None for an object store."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(url) if parts.scheme == "" else None


def join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/"), *parts])


def move_in(source: Path, url: str) -> None:
    """Put a local file at `url`, once: a file that is there already from an earlier attempt stays. Blocks.

    Raises SpoolFull without space and FileNotFoundError when neither side has the file.
    """
    target = local_path(url)
    if target is None:
        if source.exists():
            store, key = _store(url)
            with source.open("rb") as file:
                obstore.put(store, key, file)
            source.unlink()
        elif not exists(url):
            raise FileNotFoundError(url)
        return
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
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in NO_SPACE:
            raise SpoolFull(
                "The warehouse's disk has no space left. Nothing was committed; try again later."
            ) from error
        raise
    partial.replace(target)
    source.unlink()


def exists(url: str) -> bool:
    path = local_path(url)
    if path is not None:
        return path.exists()
    store, key = _store(url)
    try:
        obstore.head(store, key)
    except FileNotFoundError:
        return False
    return True


def delete(urls: Iterable[str]) -> int:
    """Delete what is there; returns how many files there were. Blocks."""
    gone = 0
    for url in urls:
        path = local_path(url)
        if path is None:
            store, key = _store(url)
            obstore.delete(store, key)
            gone += 1
            continue
        try:
            path.unlink()
            gone += 1
        except FileNotFoundError:
            continue
        _remove_if_empty(path.parent)
    return gone


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise


def list_prefix(folder: str, name_prefix: str) -> list[str]:
    """The URLs in `folder` whose names begin so. Blocks."""
    path = local_path(folder)
    if path is not None:
        if not path.is_dir():
            return []
        return [join(folder, entry.name) for entry in path.iterdir() if entry.name.startswith(name_prefix)]
    store, key = _store(join(folder, name_prefix))
    found = []
    for page in obstore.list(store, prefix=key.rpartition("/")[0]):
        found += [join(folder, item["path"].rpartition("/")[2]) for item in page]
    return [url for url in found if url.rpartition("/")[2].startswith(name_prefix)]


def _store(url: str) -> tuple[ObjectStore, str]:
    parts = urlsplit(url)
    return from_url(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path).lstrip("/")
