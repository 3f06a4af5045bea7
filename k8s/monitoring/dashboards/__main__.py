"""Write every dashboard into the folder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.all import ALL, rendered


def main() -> None:
    folder = Path(sys.argv[1])
    for board in ALL:
        (folder / f"{board.name}.json").write_text(rendered(board))


if __name__ == "__main__":
    main()
