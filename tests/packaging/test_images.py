"""What the images are made by: layers that can be shared, and scripts that leave out what nothing runs."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "catalog", "ingest", "lineage")


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


def test_all_images_begin_with_the_same_layers() -> None:
    shared = {
        re.sub(r"\A.*?(?=^ARG BASE)", "", dockerfile(s).split("# what is ")[0], flags=re.S | re.M) for s in SERVICES
    }
    assert len(shared) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_nothing_of_the_base_but_what_was_picked_and_is_checked_as_its_user(service: str) -> None:
    *_, image, development, final = dockerfile(service).split("\nFROM ")
    assert image.startswith("scratch AS image\n")
    assert development.startswith("image AS development\n")
    assert final == "image\n"
    user, check = image.index("USER 10001:10001"), image.index(f'"/check_image.py", "{service}"')
    assert user < check
    # there is no shell to run anything by
    assert not re.search(r"^RUN (--\S+ )*[^\[-]", image, re.M)


def test_tests_stubs_and_copies_leave_and_what_can_be_imported_stays(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    kept = [
        "pyiceberg/table/__init__.py",
        "rich/__init__.py",
        "rich-15.0.0.dist-info/METADATA",
        "pyarrow/libarrow_python.so.2600",
    ]
    gone = [
        "pyarrow/libarrow_python.so", "pyarrow/libarrow_python.so.2600.1.0", "pyarrow/tests/test_io.py", "a/b.pyi",
    ]  # fmt: skip
    for name in [*kept, *gone]:
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    # nothing to strip symbols of
    main = runpy.run_path(str(ROOT / "services" / "slim.py"))["main"]
    main.__globals__["strip"] = lambda objects: None
    main(tmp_path)
    assert [name for name in kept if not (packages / name).exists()] == []
    assert [name for name in gone if (packages / name).exists()] == []


def test_the_runtime_of_this_machine_runs_without_the_rest_of_it(tmp_path: Path) -> None:
    """The same script as in a build, and a Python that finds its library and its certificates below a new root."""
    root = tmp_path / "root"
    script = ROOT / "services" / "runtime.py"
    subprocess.run([sys.executable, script, root, sys.executable], check=True, timeout=120)
    program = Path(sys.executable).resolve()
    assert (root / program.relative_to("/")).exists()
    assert not (root / "bin" / "sh").exists()
    code = "import ssl, sqlite3, zlib, json, sys; print(sys.version_info[:2]); ssl.create_default_context()"
    command = ["chroot", str(root), str(program), "-c", code]
    if os.geteuid() != 0:
        pytest.skip("only root may change its root")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
