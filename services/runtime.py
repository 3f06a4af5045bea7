"""`python runtime.py FOLDER INTERPRETER`: copy out of the base image what a service needs to run, and nothing else.
`python runtime.py FOLDER --programs NAME...`: programs, with what they link to.

That is Python with its standard library, the shared libraries that it and the wheels link to, certificates and time
zones: no shell, no package manager, no second pip. Part of the image builds; the result is the images' first layer.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# What wheels link to beyond what Python does; looked for where the loader does.
LIBRARIES = (
    "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
    "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
# Of the standard library: tests, editors, installers.
LEFT_OUT = {
    "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "site-packages", "dist-packages",
    "pydoc_data",
}  # fmt: skip
FILES = (
    "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/os-release", "/etc/debian_version",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/openssl.cnf",
    "/usr/lib/ssl", "/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8",
)  # fmt: skip
ZONES = Path("/usr/share/zoneinfo")
EMPTY = ("proc", "sys", "dev", "run", "tmp", "var/tmp", "root")


class Runtime:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copied: set[Path] = set()

    def add(self, path: Path) -> None:
        """A file, or a link with all it leads to; at its place in the base image."""
        # /lib is a link to /usr/lib: the folder is resolved, the name is not
        place = path.parent.resolve() / path.name
        target = self.folder / place.relative_to("/")
        if place in self.copied or not os.path.lexists(place):
            return
        self.copied.add(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            target.symlink_to(place.readlink())
            self.add(place.parent / place.readlink())
        elif place.is_dir():
            for found in sorted(place.iterdir()):
                self.add(found)
        else:
            shutil.copy2(place, target)

    def finish(self) -> None:
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            link = Path("/") / name
            if link.is_symlink():
                (self.folder / link.readlink()).mkdir(parents=True, exist_ok=True)
                (self.folder / name).symlink_to(link.readlink())
        for name in EMPTY:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "var/tmp"):
            (self.folder / name).chmod(0o1777)


def interpreters(asked: Path) -> Iterator[Path]:
    """The interpreter of the virtual environment is a link to one, which may be a link itself."""
    yield asked
    while asked.is_symlink():
        asked = asked.parent / asked.readlink()
        yield asked


def standard_library() -> Iterator[Path]:
    root = Path(os.__file__).parent
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("config-"))
        for name in sorted(files):
            if not re.search(r"\.opt-\d\.pyc$", name):
                yield Path(folder, name)


def told(program: str, *arguments: object) -> str:
    """What a program of the base image says; nothing where it has none of that name."""
    found = shutil.which(program)
    if found is None:
        return ""
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False).stdout


def linked(objects: Iterable[Path]) -> set[Path]:
    """Everything that the loader would load for these."""
    return {Path(path) for item in objects for path in re.findall(r"(/\S+) \(0x", told("ldd", item))}


def libraries(names: Iterable[str]) -> Iterator[Path]:
    known = told("ldconfig", "-p")
    for name in names:
        where = re.search(rf"^\s*{re.escape(name)} .* => (\S+)$", known, re.MULTILINE)
        # an older or newer C library has some of them inside itself
        if where:
            yield Path(where[1])


def note_packages(runtime: Runtime) -> None:
    """Name the Debian packages that files are from, with their licences, where scanners of images look for them."""
    paths = sorted(map(str, runtime.copied))
    # the files of a merged /usr are known by their old names
    owners = told("dpkg-query", "-S", *paths, *(path.removeprefix("/usr") for path in paths))
    packages = {
        name.partition(":")[0].strip()
        for line in owners.splitlines()
        if not line.startswith("diversion ")
        for name in line.rpartition(": ")[0].split(",")
    }
    status = runtime.folder / "var/lib/dpkg/status.d"
    for package in sorted(filter(None, packages)):
        status.mkdir(parents=True, exist_ok=True)
        (status / package).write_text(told("dpkg-query", "-s", package))
        runtime.add(Path("/usr/share/doc", package, "copyright"))


def main(folder: Path, interpreter: Path) -> None:
    runtime = Runtime(folder)
    for path in interpreters(interpreter):
        # the one in the virtual environment comes with that
        if path != interpreter:
            runtime.add(path)
    library = list(standard_library())
    for path in library:
        runtime.add(path)
    objects = [interpreter.resolve(), *(path for path in library if ".so" in path.suffixes), *libraries(LIBRARIES)]
    for path in sorted({*linked(objects), *libraries(LIBRARIES)}):
        runtime.add(path)
    for name in FILES:
        runtime.add(Path(name))
    for found in sorted(ZONES.glob("*")):
        if found.name not in ("right", "posix"):
            runtime.add(found)
    note_packages(runtime)
    runtime.finish()


def programs(folder: Path, names: Iterable[str]) -> None:
    runtime = Runtime(folder)
    for name in names:
        found = shutil.which(name)
        if found is None:
            sys.exit(f"{name}: the base image has no such program")
        for path in sorted({Path(found), *linked([Path(found)])}):
            runtime.add(path)


if __name__ == "__main__":
    if sys.argv[2] == "--programs":
        programs(Path(sys.argv[1]), sys.argv[3:])
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
