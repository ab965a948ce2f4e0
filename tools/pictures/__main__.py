"""Makes the pictures of the README.

  format.svg    what an image consists of
  versions.svg  what ten versions of a Debian root file system share: nine rounds of its security
                updates, each the delta of the one before, as `make bench BENCH=versions` stores them
"""

import argparse
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path.append(str(TOOLS / "bench"))

from format import draw  # noqa: E402
from measure import TARGET, remove  # noqa: E402
from versions import make_trees  # noqa: E402


def store_versions(puzzlefs: Path, layout: Path) -> None:
    """Stores the versions as v1 to v10."""
    remove(layout)
    layout.parent.mkdir(parents=True, exist_ok=True)
    for number, tree in enumerate(make_trees("distribution"), 1):
        base = [f"--base={layout}:v{number - 1}"] if number > 1 else []
        subprocess.run([puzzlefs, "build", "--quiet", *base, tree, f"{layout}:v{number}"], check=True,
                       stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pictures", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="where the pictures are put")
    parser.add_argument("--puzzlefs", type=Path, default=TARGET / "release/puzzlefs")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "format.svg").write_text(draw())

    layout = TARGET / "pictures/debian"
    store_versions(args.puzzlefs.absolute(), layout)
    picture = subprocess.run([args.puzzlefs.absolute(), "inspect", "--graph", layout.name], cwd=layout.parent,
                             check=True, stdout=subprocess.PIPE).stdout
    (args.output / "versions.svg").write_bytes(picture)


main()
