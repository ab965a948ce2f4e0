"""Measures image builds against other tools.

Every tool packs the same tree, in turn, for some rounds in one run, from a warm page cache to the same
filesystem; what counts is the median. The trees:

  small  a minimal Debian root filesystem: quick, and noisy
  large  one with compilers and language runtimes, about 880 MB: the one that the targets are meant for
  huge   incompressible files, which only this project's builder packs: the number of layers, and memory
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import MB, SHELL, TAG, TARGET, TOOLS, Case, Verdict, add_programs, print_verdicts, remove

ROUNDS = {"small": 5, "large": 3, "huge": 1}

# What the build may use of memory: a fixed part, and one for what it has to remember.
MEMORY_FIXED = 256 * MB
MEMORY_PER_CHUNK = 100
MEMORY_PER_INODE = 300


def make_huge_tree(tree: Path, size: int) -> None:
    """Files of several sizes, of bytes that no compressor shrinks; the same each time."""
    if tree.exists():
        return
    print(f"making {size / 2**30:g} GiB of incompressible files in {tree}", file=sys.stderr)
    partial = tree.with_name(tree.name + ".partial")
    remove(partial)
    sizes = (4 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20)
    written = number = 0
    while written < size:
        end = min(size, written + sizes[number % len(sizes)])
        path = partial / str(number // 100) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while written < end:  # in pieces: this program's memory is counted with the builder's
                piece = hashlib.shake_128(b"%d" % written).digest(min(1 << 20, end - written))
                written += file.write(piece)
        number += 1
    partial.rename(tree)


def make_tree(name: str, huge_gib: int) -> Path:
    if name == "huge":
        tree = TARGET / "trees" / f"huge-{huge_gib}"
        make_huge_tree(tree, huge_gib << 30)
    else:
        tree = TARGET / "trees" / name
        subprocess.run([TOOLS / "rootfs", name, tree], check=True)
    return tree


def make_cases(args: argparse.Namespace, tree: Path, output: Path) -> list[Case]:
    def build(puzzlefs: Path, name: str, *options: str, ours: bool = False) -> Case:
        layout = output / name.replace(" ", "-")
        return Case(name, [str(puzzlefs), "build", *options, str(tree), f"{layout}:{TAG}"], layout, ours)

    def file(name: str, script: str) -> Case:  # $0 is the tree, $1 the image
        image = output / (name.replace(" ", "-") + ".img")
        return Case(name, [*SHELL, script, str(tree), str(image)], image)

    zstd = build(args.puzzlefs, "puzzlefs zstd-3", "--json", "--quiet", ours=True)
    copy = output / "copy"
    skopeo = ["skopeo", "copy", "--quiet", f"oci:{zstd.output}:{TAG}", f"oci:{copy}:{TAG}"]
    if args.tree == "huge":
        return [zstd]
    ours = [
        zstd,
        build(args.puzzlefs, "puzzlefs raw", "--json", "--quiet", "--compression=none", ours=True),
        Case("skopeo copy", skopeo, copy),
    ]
    squashfs = "-comp zstd -Xcompression-level 3 -processors 2 -noappend -quiet -no-progress"
    peers = [
        file("tar zstd-3", 'tar -C "$0" -cf - . | zstd -q -3 -T2 -o "$1"'),
        build(args.reference, "reference zstd", "-c"),
        build(args.reference, "reference raw"),
        file("mksquashfs zstd-3", f'mksquashfs "$0" "$1" {squashfs}'),
        file("mkfs.erofs lz4hc", 'mkfs.erofs --quiet -zlz4hc "$1" "$0"'),
    ]
    return [case for case in ours + peers if not args.only or any(word in case.name for word in args.only)]


def verdicts(tree: str, cases: dict[str, Case]) -> list[Verdict]:
    """What was aimed at, as far as what was run can tell."""
    found = []

    def ratio(what: str, name: str, peer: str, attribute: str, limit: float) -> None:
        if name in cases and peer in cases:
            mine, theirs = (
                case.size if attribute == "size" else case.median(attribute) for case in (cases[name], cases[peer])
            )
            found.append(Verdict(what, mine / theirs, limit, f"x {peer}"))

    ratio("build, zstd-3: time", "puzzlefs zstd-3", "tar zstd-3", "seconds", 0.75)
    ratio("build, raw: time", "puzzlefs raw", "reference raw", "seconds", 0.3)
    ratio("image, zstd-3: size", "puzzlefs zstd-3", "tar zstd-3", "size", 1.0)
    for case in cases.values():
        if not case.ours:
            continue
        report = case.report
        memory = MEMORY_FIXED + MEMORY_PER_CHUNK * report["chunks"] + MEMORY_PER_INODE * report["inodes"]
        found += [
            Verdict(f"{case.name}: memory", max(run.memory for run in case.runs) / MB, memory / MB, "MB"),
            Verdict(f"{case.name}: layers", case.layers, 420, "layers"),
        ]
        if tree != "huge":  # which has few inodes of many extents
            metadata = report["bytes"]["metadata"] / report["inodes"]
            found.append(Verdict(f"{case.name}: metadata", metadata, 160, "bytes an inode"))
    if "skopeo copy" in cases:
        found.append(Verdict("skopeo copy: time", cases["skopeo copy"].median("seconds"), 3, "s"))
    return found


def print_tables(cases: list[Case], found: list[Verdict]) -> None:
    print(f"{'':<20}{'time, s':>9}{'from - to':>16}{'CPU, s':>9}{'memory, MB':>12}{'size, MB':>10}{'layers':>8}")
    for case in cases:
        seconds = [run.seconds for run in case.runs]
        memory = max(run.memory for run in case.runs)
        print(
            f"{case.name:<20}{case.median('seconds'):>9.2f}{f'{min(seconds):.2f} - {max(seconds):.2f}':>16}"
            f"{case.median('cpu'):>9.2f}{memory / MB:>12.0f}{case.size / MB:>10.1f}"
            f"{'' if case.layers is None else case.layers:>8}"
        )
    print_verdicts(found)


def as_json(args: argparse.Namespace, cases: list[Case], found: list[Verdict]) -> str:
    measured = {
        case.name: {
            "command": case.command,
            "runs": [vars(run) for run in case.runs],
            "size": case.size,
            "layers": case.layers,
            "report": case.report,
        }
        for case in cases
    }
    targets = [vars(verdict) | {"reached": verdict.reached} for verdict in found]
    return json.dumps({"tree": args.tree, "cases": measured, "targets": targets}, indent=2)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", choices=ROUNDS, default="large")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="pack this tree instead")
    rounds = ", ".join(f"{number} for {tree}" for tree, number in ROUNDS.items())
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {rounds}")
    parser.add_argument("--only", action="append", metavar="WORD", help="run the cases with WORD in their names")
    parser.add_argument("--gib", type=int, default=12, help="the size of the huge tree (default: 12)")
    add_programs(parser)
    parser.add_argument("--json", action="store_true", help="print all that was measured as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    tree = args.source or make_tree(args.tree, args.gib)
    args.output.mkdir(parents=True, exist_ok=True)
    if os.stat(tree).st_dev != os.stat(args.output).st_dev:
        sys.exit(f"bench: {tree} and {args.output} are not on the same filesystem")
    with tempfile.TemporaryDirectory(dir=args.output) as output:
        cases = make_cases(args, tree, Path(output))
        # Warms the page cache: tar reads nothing if its output is /dev/null itself.
        subprocess.run([*SHELL, 'tar -C "$0" -cf - . | cat >/dev/null', tree], check=True)
        rounds = args.rounds or ROUNDS[args.tree]
        for number in range(1, rounds + 1):
            for case in cases:
                case.run_once()
                print(f"{number}/{rounds} {case.name}: {case.runs[-1].seconds:.2f} s", file=sys.stderr)
    found = verdicts(args.tree, {case.name: case for case in cases})
    if args.json:
        print(as_json(args, cases, found))
    else:
        print_tables(cases, found)

