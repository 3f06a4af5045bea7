"""`python slim.py FOLDER`: take out of installed packages what no service of ours runs. Part of the image builds."""

import shutil
import subprocess
import sys
from pathlib import Path

# Tests, headers and sources that packages install; parts of them that nothing here imports (Arrow's RPC server,
# Hive's client).
FOLDERS = ("tests", "pyarrow/include", "hive_metastore")
SUFFIXES = (".pyx", ".pxd", ".h", ".hpp", ".c", ".cc", ".cpp", ".a")
LIBRARIES = ("libarrow_flight", "libarrow_python_flight", "_flight")


def main(folder: Path) -> None:
    for packages in folder.rglob("site-packages"):
        for pattern in FOLDERS:
            for found in [*packages.glob(pattern), *packages.glob(f"*/{pattern}")]:
                shutil.rmtree(found, ignore_errors=True)
        for found in packages.rglob("*"):
            if found.is_file() and (found.suffix in SUFFIXES or found.name.startswith(LIBRARIES)):
                found.unlink()
        objects = [str(found) for found in packages.rglob("*.so*") if found.is_file()]
        if objects:
            subprocess.run(["strip", "--strip-unneeded", *objects], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
