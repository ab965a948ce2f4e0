"""Measures what versions of a tree take together.

Ten versions are stored in one layout: each as a delta on the one before, and each by itself. The trees:

  distribution  a Debian root filesystem, and nine rounds of its security updates
  application   ten releases of the TypeScript compiler
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import MB, TARGET, TOOLS, Verdict, add_programs, measure, print_verdicts, remove, store_size

VERSIONS = 10
PACKAGES = "gcc,python3,perl,openssl,curl,git,vim,openssh-client,gnupg"
RELEASES = ["5.0.4", "5.1.6", "5.2.2", "5.3.3", "5.4.5", "5.5.4", "5.6.3", "5.7.3", "5.8.3", "5.9.2"]


def run(*command: str | Path, **options) -> str:
    """Runs a command that must succeed; what it says goes to a log."""
    with (TARGET / "trees/versions.log").open("a") as log:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=log, text=True, **options).stdout


def make_distribution(folder: Path) -> None:
    """A root filesystem without security updates, which are then installed in nine rounds."""
    first = folder / "00"
    uris = run("apt-get", "update", "--print-uris")
    suite = run("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"').strip()
    mirror = next(line.split("'")[1] for line in uris.splitlines() if f"/dists/{suite}/InRelease" in line)
    mirror = mirror.removesuffix(f"/dists/{suite}/InRelease")
    run("unshare", "--mount", "--pid", "--fork", "--kill-child", "debootstrap", "--variant=minbase",
        f"--include={PACKAGES}", suite, first, mirror)
    run("apt-get", "update")
    downloads = folder / "downloads"
    (downloads / "partial").mkdir(parents=True)
    run("apt-get", "dist-upgrade", "--yes", "--download-only", "-o", f"Dir::State::status={first}/var/lib/dpkg/status",
        "-o", f"Dir::Cache::archives={downloads}", "-o", "APT::Sandbox::User=root")
    updates = sorted(downloads.glob("*.deb"))
    rounds = VERSIONS - 1
    for number in range(rounds):
        before, tree = folder / f"{number:02}", folder / f"{number + 1:02}"
        run("cp", "--archive", before, tree)
        some = updates[len(updates) * number // rounds : len(updates) * (number + 1) // rounds]
        for package in some:
            shutil.copy(package, tree / "tmp")
        script = "export DEBIAN_FRONTEND=noninteractive; dpkg --force-depends --install /tmp/*.deb && rm /tmp/*.deb"
        if some:
            run("unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", tree, "sh", "-c", script)
    shutil.rmtree(downloads)


def make_application(folder: Path) -> None:
    for number, release in enumerate(RELEASES):
        tree = folder / f"{number:02}"
        tree.mkdir(parents=True)
        package = run("npm", "pack", "--silent", f"typescript@{release}", cwd=folder).strip()
        run("tar", "-xzf", folder / package, "-C", tree)
        (folder / package).unlink()


def make_trees(name: str) -> list[Path]:
    folder = TARGET / "trees" / name
    if not folder.exists():
        print(f"making {VERSIONS} versions in {folder}", file=sys.stderr)
        partial = folder.with_name(name + ".partial")
        remove(partial)
        partial.mkdir(parents=True)
        {"distribution": make_distribution, "application": make_application}[name](partial)
        partial.rename(folder)
    return sorted(folder.iterdir())


def store(program: Path, trees: list[Path], layout: Path, options: list[str], base: str | None) -> tuple[float, float]:
    """Stores the versions in one layout; tells the seconds for the first and for all others, and the size."""
    remove(layout)
    seconds = 0.0
    for number, tree in enumerate(trees):
        on = ["-b", base.format(layout=layout, tag=f"v{number - 1}")] if base and number > 0 else []
        command = [str(program), "build", *options]
        try:
            took, _ = measure([*command, *on, str(tree), f"{layout}:v{number}"])
        except SystemExit as error:
            if not on:
                raise
            # The reference fails on some changes, such as a directory that is gone.
            print(f"a delta failed, so version {number} is built by itself: {error}".splitlines()[0])
            took, _ = measure([*command, str(tree), f"{layout}:v{number}"])
        seconds += took.seconds if number > 0 else 0
    return seconds, store_size(layout) / MB


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench versions", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["distribution", "application"])
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    # The reference looks for the base in the layout that it writes to.
    programs = {
        "puzzlefs": (args.puzzlefs, ["-c", "--quiet"], "{layout}:{tag}"),
        "reference": (args.reference, ["-c"], "{tag}"),
    }
    found = []
    print(f"{'':<14}{'':<24}{'deltas: s':>12}{'MB':>9}{'apart: s':>12}{'MB':>9}")
    for name in [args.only] if args.only else ["distribution", "application"]:
        trees = make_trees(name)
        results = {}
        with tempfile.TemporaryDirectory(dir=args.output) as output:
            for who, (program, options, base) in programs.items():
                deltas = store(program, trees, Path(output) / "deltas", options, base)
                apart = store(program, trees, Path(output) / "apart", options, None)
                results[who] = deltas, apart
                print(f"{name:<14}{who:<24}{deltas[0]:>12.2f}{deltas[1]:>9.1f}{apart[0]:>12.2f}{apart[1]:>9.1f}")
        (deltas, apart), (their_deltas, their_apart) = results["puzzlefs"], results["reference"]
        found += [
            Verdict(f"{name}: size as deltas", deltas[1] / their_deltas[1], 0.7, "x reference's deltas"),
            Verdict(f"{name}: size as deltas", deltas[1] / their_apart[1], 0.7, "x reference apart"),
            Verdict(f"{name}: size apart", apart[1] / their_apart[1], 1.0, "x reference apart"),
            Verdict(f"{name}: time of the deltas", deltas[0] / their_deltas[0], 1.0, "x reference's deltas"),
        ]
    print_verdicts(found)
