"""Measures images of very many inodes: opening one and listing a directory of it, listing all of it, mounting it.

The images are made here, word by word: directories of a thousand files, each of which has an extent.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from measure import MB, TAG, Run, Verdict, add_programs, measure, print_verdicts
from mounts import MEMORY_FIXED, MEMORY_PER_INODE, Mount

SIZES = [100_000, 1_000_000, 10_000_000]
FILES = 1000  # of a directory
WORD = 8
ROUNDS = 3
LINEAR = 1.25  # what ten times as many inodes may take, beyond ten times as much

ROOTFS = "application/vnd.puzzlefs.image.rootfs.v1"
DATA = "application/vnd.puzzlefs.image.filedata.v1"
CONTENT = b"0123456789"

# Cap'n Proto: pointers, and how long the elements of a list are.
BYTES, COMPOSITE = 2, 7
DIR, FILE = 3 | 0o755 << 16, 5 | 0o644 << 16
# The words of an inode, of an entry, of a Dir, and of a file's one extent with all that it refers to.
INODE, ENTRY, DIRECTORY, EXTENT = 6, 2, 2, 10


def struct_pointer(offset: int, data: int, pointers: int) -> int:
    return offset << 2 & 0xFFFFFFFF | data << 32 | pointers << 48


def list_pointer(offset: int, element: int, count: int) -> int:
    return offset << 2 & 0xFFFFFFFF | 1 | element << 32 | count << 35


def words(*values: int) -> bytes:
    return array("Q", values).tobytes()


class Metadata:
    """The message, section after section; where each begins is known beforehand."""

    def __init__(self, inodes: int) -> None:
        self.dirs = inodes // (FILES + 1)
        self.count = 1 + self.dirs * (FILES + 1)
        self.inodes = 7  # behind the root, the only layer and the tag of the list
        self.directories = self.inodes + INODE * self.count
        self.entries = self.directories + DIRECTORY * (1 + self.dirs)
        self.in_root = 1 + ENTRY * self.dirs
        self.in_dir = 1 + ENTRY * FILES
        self.names = self.entries + self.in_root + self.in_dir * self.dirs
        self.extents = self.names + self.dirs + self.dirs * FILES
        self.end = self.extents + EXTENT * self.dirs * FILES

    def sections(self) -> Iterator[bytes]:
        yield (self.end << 32).to_bytes(WORD, "little")  # the table of segments, of which there is one
        inodes = list_pointer(0, COMPOSITE, INODE * self.count)
        yield words(struct_pointer(0, 1, 2), 3, list_pointer(1, COMPOSITE, 1), 0)
        yield words(struct_pointer(1, 0, 1), inodes, struct_pointer(self.count, 4, 2))
        yield words(1, DIR, 0, 0, self.to_directory(0, self.inodes + 4), 0)
        for number in range(self.dirs):
            yield self.inodes_of(number)
        yield from self.all_directories()
        yield from self.all_entries()
        yield self.all_names(self.dirs)
        yield from (self.all_names(FILES) for _ in range(self.dirs))
        yield from (extent() * FILES for _ in range(self.dirs))

    def to_directory(self, number: int, at: int) -> int:
        return struct_pointer(self.directories + DIRECTORY * number - at - 1, 1, 1)

    def inodes_of(self, number: int) -> bytes:
        """The inode of a directory, and those of its files."""
        first = 1 + number * (FILES + 1)
        at = self.inodes + INODE * first + 4
        extents = self.extents + EXTENT * FILES * number
        inodes = array("Q", bytes(WORD * INODE * (FILES + 1)))
        inodes[0::INODE] = array("Q", range(first + 1, first + FILES + 2))
        inodes[1::INODE] = array("Q", [DIR] + [FILE] * FILES)
        offset, step = extents - (at + INODE) - 1, EXTENT - INODE
        pointers = [list_pointer(offset + step * file, COMPOSITE, 2) for file in range(FILES)]
        inodes[4::INODE] = array("Q", [self.to_directory(1 + number, at), *pointers])
        return inodes.tobytes()

    def all_directories(self) -> Iterator[bytes]:
        at, entries = self.directories + 1, self.entries
        yield words(0, list_pointer(entries - at - 1, COMPOSITE, ENTRY * self.dirs))
        entries += self.in_root
        for number in range(self.dirs):
            at += DIRECTORY
            yield words(0, list_pointer(entries - at - 1, COMPOSITE, ENTRY * FILES))
            entries += self.in_dir

    def all_entries(self) -> Iterator[bytes]:
        yield entries_of(self.entries, self.names, range(2, self.count + 1, FILES + 1))
        for number in range(self.dirs):
            first = 1 + number * (FILES + 1) + 2
            at = self.entries + self.in_root + self.in_dir * number
            yield entries_of(at, self.names + self.dirs + FILES * number, range(first, first + FILES))

    @staticmethod
    def all_names(count: int) -> bytes:
        return b"".join(b"%08d" % number for number in range(count))


def entries_of(at: int, names: int, inos: range) -> bytes:
    """The list at this word of entries for these inodes, whose names are at that one."""
    entries = array("Q", [struct_pointer(len(inos), 1, 1)]) + array("Q", bytes(WORD * ENTRY * len(inos)))
    entries[1::ENTRY] = array("Q", inos)
    offset, step = names - (at + 2) - 1, 1 - ENTRY
    pointers = (list_pointer(offset + step * number, BYTES, WORD) for number in range(len(inos)))
    entries[2::ENTRY] = array("Q", pointers)
    return entries.tobytes()


def extent() -> bytes:
    """A list of one FileChunk, its BlobRef, and the digest."""
    chunk = words(struct_pointer(1, 1, 1), 1, struct_pointer(0, 2, 1))
    return chunk + words(0, 0, list_pointer(0, BYTES, 32)) + hashlib.sha256(CONTENT).digest()


def store(layout: Path, media_type: str, parts: Iterator[bytes]) -> dict:
    """Stores a blob; gives its descriptor."""
    partial, digest, size = layout / "partial", hashlib.sha256(), 0
    with partial.open("wb") as file:
        for part in parts:
            digest.update(part)
            size += file.write(part)
    partial.rename(layout / "blobs/sha256" / digest.hexdigest())
    return {"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def make_image(layout: Path, inodes: int) -> tuple[int, int]:
    """Makes an image of about so many inodes; tells how many exactly, and how much metadata."""
    def document(kind: str, content: dict) -> dict:
        return store(layout, f"application/vnd.oci.{kind}.v1+json", iter([json.dumps(content).encode()]))

    (layout / "blobs/sha256").mkdir(parents=True)
    metadata = Metadata(inodes)
    layers = [store(layout, ROOTFS, metadata.sections()), store(layout, DATA, iter([CONTENT]))]
    manifest = document("image.manifest", {"schemaVersion": 2, "config": document("empty", {}), "layers": layers})
    manifest["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return metadata.count, layers[0]["size"]


def mounted(puzzlefs: Path, image: str, point: Path, path: str) -> Run:
    """Mounts, looks at one path, and unmounts; the time is that until the path was seen."""
    mount = Mount(image, [], [str(puzzlefs), "mount", "--foreground", image], point, daemon=True)
    start = time.monotonic()
    mount.begin(point)
    os.stat(point / path)
    seconds = time.monotonic() - start
    ticks = Path(f"/proc/{mount.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    mount.end(point)
    return Run(seconds, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), mount.memory)


def median(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def bench(puzzlefs: Path, folder: Path, inodes: int, rounds: int) -> tuple[int, dict[str, Run]]:
    layout, point = folder / "layout", folder / "mnt"
    point.mkdir()
    count, metadata = make_image(layout, inodes)
    image, last = f"{layout}:{TAG}", f"{count // (FILES + 1) - 1:08}"
    print(f"{count} inodes: {metadata / count:.0f} bytes of metadata each", file=sys.stderr)
    return count, {
        "ls": median([measure([str(puzzlefs), "ls", image, last])[0] for _ in range(rounds)]),
        "ls -R": median([measure([str(puzzlefs), "ls", "-R", image])[0] for _ in range(rounds)]),
        "mount": median([mounted(puzzlefs, image, point, f"{last}/{0:08}") for _ in range(rounds)]),
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench inodes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], metavar="INODES", help="no larger image than of so many")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for size in (size for size in SIZES if size <= args.most):
        with tempfile.TemporaryDirectory(dir=args.output) as folder:
            count, runs = bench(args.puzzlefs, Path(folder), size, args.rounds)
            found[count] = runs
    report(found)


def report(found: dict[int, dict[str, Run]]) -> None:
    print(f"{'inodes':>10} {'':<8}{'seconds':>10}{'CPU, s':>10}{'memory, MB':>12}{'bytes each':>12}")
    for count, runs in found.items():
        for what, run in runs.items():
            memory = f"{run.memory / MB:>12.0f}{run.memory / count:>12.0f}"
            print(f"{count:>10} {what:<8}{run.seconds:>10.2f}{run.cpu:>10.2f}{memory}")
    (most, runs), smaller = list(found.items())[-1], list(found.items())[-2:-1]
    limit = (MEMORY_FIXED + MEMORY_PER_INODE * most) / MB
    verdicts = [Verdict("memory of the mount", runs["mount"].memory / MB, limit, "MB")]
    for count, fewer in smaller:
        for what, run in runs.items():
            verdicts += [
                Verdict(f"{what}: CPU", run.cpu / fewer[what].cpu, LINEAR * most / count, "x a tenth of it"),
                Verdict(f"{what}: memory", run.memory / fewer[what].memory, LINEAR * most / count, "x a tenth of it"),
            ]
    print_verdicts(verdicts)
