"""Measures how the steps of a stacker build are packed: puzzlefs beside its tar and squashfs layers.

The five steps are the upperdirs of a real build: a Debian root file system, a Python, a compiler, configuration
with an application, and an update of what is there. Each is packed as stacker does it: tar layers by umoci (gzip),
squashfs layers by mksquashfs with its defaults for zstd, and their digest; puzzlefs as a delta of the step before.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from images import make_tree
from measure import MB, SHELL, TAG, Verdict, add_programs, measure, print_verdicts, remove, size_of, store_size

ROUNDS = 3
PYTHON = ["usr/lib/python3", "usr/lib/python3.11", "usr/share/python3"]
COMPILER = ["usr/lib/gcc", "usr/include", "usr/libexec"]


def copy(tree: Path, paths: list[str], upper: Path) -> None:
    for path in paths:
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", tree / path, upper / path], check=True)


def configure(tree: Path, upper: Path) -> None:
    """Settings, and an application of many small files and a large one."""
    copy(tree, ["etc"], upper)
    for index in range(500):
        file = upper / f"srv/app/module-{index % 20}/file-{index}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# module {index}\n" + "print('hello')\n" * (index % 200))
    (upper / "srv/app/data").write_bytes((tree / "usr/lib/x86_64-linux-gnu/libc.a").read_bytes() * 2)


def update(before: Path, upper: Path) -> None:
    """New versions of the compiler's larger files: a few bytes are others."""
    files = (file for file in (before / "usr/lib/gcc").rglob("*") if file.is_file() and not file.is_symlink())
    for file in (file for file in files if file.stat().st_size > MB):
        target = upper / file.relative_to(before)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
        with target.open("r+b") as opened:
            opened.seek(target.stat().st_size // 2)
            opened.write(b"another version")


def make_upperdirs(output: Path) -> list[Path]:
    small, large = make_tree("small", 0), make_tree("large", 0)
    uppers = [small, *(output / f"upper-{step}" for step in range(2, 6))]
    for upper in uppers[1:]:
        upper.mkdir()
    copy(large, PYTHON, uppers[1])
    copy(large, COMPILER, uppers[2])
    configure(large, uppers[3])
    update(uppers[2], uppers[4])
    return uppers


def commands(puzzlefs: Path, uppers: list[Path], made: Path) -> dict[str, list[str]]:
    """What packs each step, for each type of layers."""
    tar, squashfs, ours = [], [], []
    for step, upper in enumerate(uppers, start=1):
        layer = made / f"{step}.tar"
        tar.append(f"tar -C {upper} --xattrs --sort=name -cf {layer} . && "
                   f"umoci raw add-layer --image {made}/l:{TAG} {layer} && rm {layer}")
        blob = made / f"{step}.squashfs"
        squashfs.append(f"mksquashfs {upper} {blob} -comp zstd -noappend -quiet -no-progress && sha256sum {blob}")
        how = "build" if step == 1 else f"delta --base {made}/l:{step - 1}"
        ours.append(f"{puzzlefs} {how} --quiet {upper} {made}/l:{step}")
    return {"puzzlefs": ours, "tar": tar, "squashfs": squashfs}


def pack(kind: str, steps: list[str], made: Path) -> tuple[list[float], int]:
    """Packs all steps; tells the seconds of each, and the size of what is stored in the end."""
    remove(made)
    made.mkdir()
    if kind == "tar":
        measure([*SHELL, f"umoci init --layout {made}/l && umoci new --image {made}/l:{TAG}"])
    seconds = [measure([*SHELL, step])[0].seconds for step in steps]
    return seconds, size_of(made) if kind == "squashfs" else store_size(made / "l")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench stacker", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.output) as folder:
        output = Path(folder)
        made = output / "made"
        kinds = commands(args.puzzlefs, make_upperdirs(output), made)
        runs, sizes = {kind: [] for kind in kinds}, {}
        for number in range(1, ROUNDS + 1):
            for kind, steps in kinds.items():
                seconds, sizes[kind] = pack(kind, steps, made)
                runs[kind].append(seconds)
                print(f"{number}/{ROUNDS} {kind}: {sum(seconds):.2f} s", file=sys.stderr)
        remove(made)
    print(f"{'':<12}{''.join(f'step {step}, s'.rjust(11) for step in range(1, 6))}{'sum, s':>10}{'store, MB':>12}")
    medians = {kind: [statistics.median(step) for step in zip(*found)] for kind, found in runs.items()}
    for kind, steps in medians.items():
        print(f"{kind:<12}{''.join(f'{seconds:>11.2f}' for seconds in steps)}{sum(steps):>10.2f}{sizes[kind] / MB:>12.1f}")
    print_verdicts([
        Verdict(f"five steps: {what}", ours / theirs, 1.0, f"x {kind}")
        for kind in ("tar", "squashfs")
        for what, ours, theirs in (
            ("time", sum(medians["puzzlefs"]), sum(medians[kind])),
            ("store", sizes["puzzlefs"], sizes[kind]),
        )
    ])
