"""Measures mounts of a large Debian root filesystem beside those of other filesystems.

Each mount is read as a whole and walked through, cold (after dropping the kernel's caches) and again, is read at random
places by eight processes, and has programs started from it. Wants root, and a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from images import make_tree
from measure import MB, SHELL, TAG, Verdict, add_programs, measure, print_verdicts

ROUNDS = 3
FIO_SECONDS = 5
MEMORY_FIXED = 128 * MB
MEMORY_PER_INODE = 300

READ = 'tar -C "$0" -cf - . | cat >/dev/null'
FIND = 'find "$0" -printf "%m %U %G %s %T@ %p\\n" | cat >/dev/null'


@dataclass
class Mount:
    name: str
    make: list[str]
    mount: list[str]
    image: Path
    daemon: bool = False  # served by a process, which stays in the foreground
    rounds: int = ROUNDS
    process: subprocess.Popen | None = None
    found: dict[str, list[float]] = field(default_factory=dict)
    memory: int = 0

    def begin(self, point: Path) -> None:
        if not self.daemon:
            subprocess.run([*self.mount, point], check=True)
            return
        self.process = subprocess.Popen([*self.mount, point], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 600
        while not os.path.ismount(point):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {self.name} did not mount")
            time.sleep(0.01)

    def end(self, point: Path) -> None:
        if self.process is not None:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
            self.memory = max(self.memory, int(peak) * 1024)
        subprocess.run(["umount", point], check=True)
        if self.process is not None:
            self.process.wait(timeout=60)

    def note(self, what: str, value: float) -> None:
        self.found.setdefault(what, []).append(value)

    def median(self, what: str) -> float:
        return statistics.median(self.found[what])


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def timed(mount: Mount, what: str, command: list[str]) -> None:
    run, _ = measure(command)
    mount.note(what, run.seconds)


def random_reads(point: Path, tree: Path) -> float:
    """Reads of 4 KiB a second, by eight processes, in the eight largest files."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    largest = sorted(files, key=lambda path: (-path.stat().st_size, path))[:8]
    names = ":".join(str(point / path.relative_to(tree)) for path in largest)
    command = ["fio", "--name=random", f"--filename={names}", "--rw=randread", "--bs=4k", "--numjobs=8", "--readonly",
               "--ioengine=psync", "--file_service_type=random", f"--runtime={FIO_SECONDS}", "--time_based",
               "--group_reporting", "--output-format=json"]
    _, printed = measure(command)
    return json.loads(printed)["jobs"][0]["read"]["iops"]


def round_of(mount: Mount, point: Path, tree: Path) -> None:
    def fresh() -> None:
        if os.path.ismount(point):
            mount.end(point)
        drop_caches()
        mount.begin(point)

    for what, script in (("read", READ), ("find", FIND)):
        fresh()
        for how in ("cold", "again"):
            timed(mount, f"{what} {how}", [*SHELL, script, str(point)])
    for program, *arguments in (("python3", "-c", "import json"), ("node", "-e", "0")):
        if not (tree / "usr/bin" / program).exists():
            continue
        fresh()
        timed(mount, f"start of {program}", ["chroot", str(point), program, *arguments])
    fresh()
    mount.note("random reads", random_reads(point, tree))
    mount.end(point)


def mounts(args: argparse.Namespace, tree: Path, output: Path) -> list[Mount]:
    squashfs, erofs = output / "squashfs", output / "erofs"
    ours, theirs = output / "puzzlefs", output / "reference"
    return [
        Mount("puzzlefs", [str(args.puzzlefs), "build", "--quiet", str(tree), f"{ours}:{TAG}"],
              [str(args.puzzlefs), "mount", "--foreground", f"{ours}:{TAG}"], ours, daemon=True),
        Mount("squashfs", [*SHELL, 'mksquashfs "$0" "$1" -comp zstd -Xcompression-level 3 -noappend -quiet -no-progress',
                           str(tree), str(squashfs)],
              ["mount", "-t", "squashfs", "-o", "loop,ro", str(squashfs)], squashfs),
        Mount("erofs lz4", ["mkfs.erofs", "--quiet", "-zlz4hc", str(erofs), str(tree)],
              ["mount", "-t", "erofs", "-o", "loop,ro", str(erofs)], erofs),
        Mount("squashfuse", ["true"], ["squashfuse_ll", "-f", str(squashfs)], squashfs, daemon=True, rounds=1),
        Mount("reference", [str(args.reference), "build", "-c", str(tree), f"{theirs}:{TAG}"],
              [str(args.reference), "mount", "-f", f"{theirs}:{TAG}"], theirs, daemon=True, rounds=1),
    ]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench mounts", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=["small", "large"], default="large")
    parser.add_argument("--only", action="append", metavar="NAME", help="these mounts only")
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    tree = make_tree(args.tree, 0)
    with tempfile.TemporaryDirectory(dir=args.output) as folder:
        output, point = Path(folder), Path(folder) / "mnt"
        point.mkdir()
        all_of_them = mounts(args, tree, output)
        chosen = [mount for mount in all_of_them if not args.only or mount.name in args.only]
        for mount in chosen:
            measure(mount.make)
        try:
            for number in range(1, ROUNDS + 1):
                for mount in chosen:
                    if number <= mount.rounds:
                        round_of(mount, point, tree)
                        print(f"{number}/{ROUNDS} {mount.name}", file=sys.stderr)
        finally:
            if os.path.ismount(point):
                subprocess.run(["umount", "--lazy", point], check=True)
    report(chosen, tree)


def report(found: list[Mount], tree: Path) -> None:
    kinds = ["read cold", "read again", "find cold", "find again", "start of python3", "start of node"]
    kinds = [kind for kind in kinds if kind in found[0].found]
    print(f"{'seconds':<14}" + "".join(f"{kind.replace('start of ', ''):>12}" for kind in kinds)
          + f"{'reads/s':>12}{'memory, MB':>12}")
    for mount in found:
        row = "".join(f"{mount.median(kind):>12.2f}" for kind in kinds)
        memory = f"{mount.memory / MB:>12.0f}" if mount.daemon else ""
        print(f"{mount.name:<14}{row}{mount.median('random reads'):>12.0f}{memory}")
    by_name = {mount.name: mount for mount in found}
    if "puzzlefs" not in by_name:
        return
    ours, inodes = by_name["puzzlefs"], sum(1 for _ in tree.rglob("*"))
    verdicts = []
    if "squashfs" in by_name:
        for kind, limit in (("read cold", 0.8), ("read again", 1.1), ("find cold", 1.0), ("find again", 1.0)):
            value = ours.median(kind) / by_name["squashfs"].median(kind)
            verdicts.append(Verdict(kind, value, limit, "x squashfs"))
    limit = (MEMORY_FIXED + MEMORY_PER_INODE * inodes) / MB
    verdicts.append(Verdict("memory of the mount", ours.memory / MB, limit, "MB"))
    print_verdicts(verdicts)
