"""Runs commands and prints what they took: what all benchmarks share."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MB = 10**6
TAG = "bench"
TOOLS = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOOLS.parent / "target")).resolve()
SHELL = ["bash", "-o", "pipefail", "-c"]


@dataclass
class Case:
    """One command, and the file or folder that it makes."""

    name: str
    command: list[str]
    output: Path
    ours: bool = False  # prints a JSON report of the build
    runs: list["Run"] = field(default_factory=list)
    size: int = 0
    layers: int | None = None
    report: dict | None = None

    def median(self, what: str) -> float:
        return statistics.median(getattr(run, what) for run in self.runs)

    def run_once(self) -> None:
        """Runs the command once more; what it makes stays until the next time."""
        remove(self.output)
        run, printed = measure(self.command)
        self.runs.append(run)
        self.size = size_of(self.output)
        self.layers = layer_count(self.output)
        if self.ours:
            self.report = json.loads(printed)


@dataclass
class Run:
    seconds: float
    cpu: float
    memory: int  # bytes, of the largest process


@dataclass
class Verdict:
    what: str
    value: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.value <= self.limit


def measure(command: list[str]) -> tuple[Run, bytes]:
    """Runs a command to its end. Its processes' usage comes from wait4, which adds up the time of all of
    them and knows the resident set of the largest, or of this program (about 20 MB) if that is larger."""
    os.sync()  # the writes of the one before are not this one's
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"bench: {' '.join(command)}: exit status {process.returncode}\n{err.read().decode()}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024), out.read()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def layer_count(layout: Path) -> int | None:
    """The number of layers of the one image in an OCI layout; None for what is not a layout."""
    index = layout / "index.json"
    if not index.is_file():
        return None
    (descriptor,) = json.loads(index.read_bytes())["manifests"]
    algorithm, digest = descriptor["digest"].split(":")
    return len(json.loads((layout / "blobs" / algorithm / digest).read_bytes())["layers"])


def store_size(layout: Path) -> int:
    """The size of all blobs of a layout."""
    return size_of(layout / "blobs")


def add_programs(parser) -> None:
    """The arguments that name the programs which are measured, and where their output goes."""
    parser.add_argument("--output", type=Path, default=TARGET / "bench", metavar="DIR", help="where images go")
    parser.add_argument("--puzzlefs", type=Path, default=TARGET / "release/puzzlefs")
    parser.add_argument("--reference", type=Path, default=TARGET / "tools/reference/bin/puzzlefs")


def print_verdicts(found: list[Verdict]) -> None:
    print(f"\n{'':<44}{'measured':>10}{'target':>10}")
    for verdict in found:
        said = "reached" if verdict.reached else "MISSED"
        print(f"{verdict.what:<44}{verdict.value:>10.2f}{verdict.limit:>10.2f}  {verdict.unit:<24}{said}")
