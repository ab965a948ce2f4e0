"""Measures deltas of small changes: the time of one, and what a thousand of them leave."""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from images import make_tree
from measure import MB, Verdict, add_programs, measure, print_verdicts

STEPS = 1000
ROUNDS = 9


def one_file(args: argparse.Namespace, output: Path) -> list[Verdict]:
    """The delta of one small file on a large image."""
    layout, upper = output / "large", output / "upper"
    tree = make_tree("large", 0)
    measure([str(args.puzzlefs), "build", "--quiet", str(tree), f"{layout}:base"])
    upper.mkdir()
    (upper / "new").write_text("new")
    command = [str(args.puzzlefs), "delta", "--base", f"{layout}:base", str(upper), f"{layout}:delta"]
    seconds = sorted(measure(command)[0].seconds for _ in range(ROUNDS))[ROUNDS // 2]
    return [Verdict("delta of one file: time", seconds, 0.15, "s")]


def content(step: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % step).digest(size)


def change(upper: Path, step: int, names: list[Path]) -> None:
    """What one step changes: one new file, one changed one, and one removed now and then."""
    shutil.rmtree(upper, ignore_errors=True)
    new = upper / "srv" / f"dir-{step % 50}"
    new.mkdir(parents=True)
    (new / f"file-{step}").write_bytes(content(step, 1000 + step * 37 % 60_000))
    old = upper / names[step * 7919 % len(names)]
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(content(-step, 500 + step * 101 % 30_000))


def many(args: argparse.Namespace, output: Path) -> list[Verdict]:
    """A thousand deltas, each on the one before."""
    layout, upper = output / "small", output / "upper"
    tree = make_tree("small", 0)
    files = [file for file in tree.rglob("*") if file.is_file() and not file.is_symlink()]
    names = sorted(file.relative_to(tree) for file in files if file.stat().st_size < 100_000)
    measure([str(args.puzzlefs), "build", "--quiet", str(tree), f"{layout}:v0"])
    # What the steps write does not compress: chunks are as large stored as raw.
    distinct, layers, moved, seconds = sum_of_data(layout), 0, 0, 0.0
    for step in range(1, STEPS + 1):
        change(upper, step, names)
        command = [str(args.puzzlefs), "delta", "--json", "--base", f"{layout}:v{step - 1}"]
        run, printed = measure([*command, str(upper), f"{layout}:v{step}"])
        report = json.loads(printed)
        seconds += run.seconds
        layers = max(layers, report["layers"])
        distinct += report["bytes"]["new"]
        moved += report["bytes"]["moved"]
        if step % 100 == 0:
            print(f"{step}: {report['layers']} layers, {seconds / step:.3f} s a step", file=sys.stderr)
    data = sum_of_data(layout)
    print(f"stored anew in all: {moved / MB:.1f} MB of {distinct / MB:.1f} MB; {seconds / STEPS:.3f} s a step")
    return [
        Verdict(f"{STEPS} deltas: layers", layers, 512, "at most"),
        Verdict(f"{STEPS} deltas: data", data / distinct, 1.3, "x distinct chunks"),
    ]


def sum_of_data(layout: Path) -> int:
    """The size of all data blobs that some tag refers to."""
    sizes = {}
    for entry in json.loads((layout / "index.json").read_bytes())["manifests"]:
        manifest = json.loads((layout / "blobs/sha256" / entry["digest"].split(":")[1]).read_bytes())
        sizes |= {layer["digest"]: layer["size"] for layer in manifest["layers"][1:]}
    return sum(sizes.values())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench steps", description=__doc__)
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    found = []
    for part in (one_file, many):
        with tempfile.TemporaryDirectory(dir=args.output) as output:
            found += part(args, Path(output))
    print_verdicts(found)
