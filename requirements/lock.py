"""Write the hashed locks beside this file from the workspace's pyproject files. Needs uv on PATH."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
COMPILE = [
    "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
    "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--upgrade",
]  # fmt: skip


def third_party(requirements: list[str]) -> list[str]:
    """Our own packages are installed from the tree, so they are left out of what is resolved."""
    return sorted({r for r in requirements if not r.startswith("lakegate")})


def main() -> None:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = workspace["dependency-groups"]
    suite = list(groups["build"])
    for path in sorted(ROOT.glob("*/pyproject.toml")) + sorted(ROOT.glob("*/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        suite += project["dependencies"]
        suite += [r for extra in project.get("optional-dependencies", {}).values() for r in extra]
    compile_lock("suite", third_party(suite))
    compile_lock("dev", third_party(groups["dev"]), "--constraint", str(HERE / "suite.txt"))
    compile_lock("demo", third_party(groups["demo"]), "--no-deps")


def compile_lock(name: str, requirements: list[str], *options: str) -> None:
    lock = HERE / f"{name}.txt"
    command = [*COMPILE, *options, "--output-file", str(lock), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
