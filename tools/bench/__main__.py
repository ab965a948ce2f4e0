"""Measures this project beside others: `make bench BENCH='WHAT OPTIONS'`.

  small, large, huge   builds of one tree (default: large)
  versions             ten versions of a distribution and of an application, as deltas and apart
  mounts               mounts beside squashfs, erofs, squashfuse and the reference
  convert              an ordinary image converted, and unpacked and built
  stacker              the steps of a stacker build, beside its tar and squashfs layers
  inodes               images of up to ten million inodes opened, listed and mounted
  steps                a thousand small deltas, and the delta of one file
"""

import sys

import convert
import images
import inodes
import mounts
import stacker
import steps
import versions

BENCHES = {
    "convert": convert.main,
    "inodes": inodes.main,
    "mounts": mounts.main,
    "stacker": stacker.main,
    "steps": steps.main,
    "versions": versions.main,
}


def main() -> None:
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return
    name, rest = (sys.argv[1], sys.argv[2:]) if sys.argv[1:2] and sys.argv[1] in BENCHES else (None, sys.argv[1:])
    BENCHES.get(name, images.main)(rest)


if __name__ == "__main__":
    main()
