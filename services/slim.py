"""`python slim.py FOLDER`: take out of installed packages what no service of ours runs. Part of the image builds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

# No whole packages: what another one declares it imports somewhere, if only when an error has to be explained.
# Tests, stubs, headers and sources that packages install; parts of them that nothing here imports (Hive's client).
FOLDERS = ("tests", "testing", "pyarrow/include", "pyarrow/includes", "pyarrow/src", "hive_metastore", "_duckdb-stubs")
SUFFIXES = (".pyx", ".pxd", ".pxi", ".pyi", ".h", ".hpp", ".c", ".cc", ".cpp", ".a")
# Of Arrow: its RPC server, its tests, and copies of a library under names that nobody links to. Its S3 client stays,
# although files come and go by obstore: pyiceberg imports it.
LIBRARIES = re.compile(
    r"libarrow_flight|libarrow_python_flight|_flight|_pyarrow_cpp_tests"
    r"|libarrow_python\w*\.so(\.\d+\.\d+\.\d+)?$"
)


def main(folder: Path) -> None:
    for packages in folder.rglob("site-packages"):
        for pattern in FOLDERS:
            for found in [*packages.glob(pattern), *packages.glob(f"*/{pattern}")]:
                shutil.rmtree(found, ignore_errors=True)
        for found in packages.rglob("*"):
            if found.is_file() and (found.suffix in SUFFIXES or LIBRARIES.match(found.name)):
                found.unlink()
        objects = [str(found) for found in packages.rglob("*.so*") if found.is_file()]
        if objects:
            strip(objects)


def strip(objects: list[str]) -> None:
    """Debug symbols are a third of what wheels weigh."""
    subprocess.run(["strip", "--strip-unneeded", *objects], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
