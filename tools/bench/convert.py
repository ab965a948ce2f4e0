"""Measures the conversion of an ordinary image against unpacking it and building of the tree.

The image has two layers of a large Debian root filesystem, compressed with gzip.
"""

import argparse
import gzip
import hashlib
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from images import make_tree
from measure import MB, SHELL, TAG, Verdict, add_programs, measure, print_verdicts, remove

ROUNDS = 3


def make_image(tree: Path, layout: Path) -> None:
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(media_type: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layers, ids = [], []
    for choice in ("--exclude=./usr/lib", "./usr/lib"):
        what = ["."] if choice.startswith("--") else []
        archive = subprocess.run(["tar", "-C", tree, "--numeric-owner", "--sort=name", "-cf", "-", choice, *what],
                                 check=True, stdout=subprocess.PIPE).stdout
        ids.append("sha256:" + hashlib.sha256(archive).hexdigest())
        packed = gzip.compress(archive, compresslevel=1, mtime=0)
        layers.append(put("application/vnd.oci.image.layer.v1.tar+gzip", packed))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
              "history": [{"created": "2024-01-01T00:00:00Z"}] * 2}
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": manifest_type, "layers": layers,
                "config": put("application/vnd.oci.image.config.v1+json", json.dumps(config).encode())}
    entry = put(manifest_type, json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench convert", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=["small", "large"], default="large")
    add_programs(parser)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    tree = make_tree(args.tree, 0)
    with tempfile.TemporaryDirectory(dir=args.output) as folder:
        output = Path(folder)
        source, made = output / "source", output / "made"
        # In a process of its own, since this program's memory is counted with its children's.
        maker = multiprocessing.Process(target=make_image, args=(tree, source))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            sys.exit("bench: the image could not be made")
        puzzlefs = str(args.puzzlefs)
        build = f'umoci unpack --image {source}:{TAG} {made}/bundle && {puzzlefs} build {made}/bundle/rootfs {made}/l:{TAG}'
        squashfs = (f"skopeo copy --quiet oci:{source}:{TAG} oci:{made}/copy:{TAG} && "
                    f"umoci unpack --image {made}/copy:{TAG} {made}/bundle && "
                    f"mksquashfs {made}/bundle/rootfs {made}/squashfs -comp zstd -Xcompression-level 3 -processors 2 "
                    "-noappend -quiet -no-progress")
        cases = {
            "convert": [puzzlefs, "convert", f"{source}:{TAG}", f"{made}/l:{TAG}"],
            "convert --squash": [puzzlefs, "convert", "--squash", f"{source}:{TAG}", f"{made}/l:{TAG}"],
            "umoci unpack, build": [*SHELL, build],
            "skopeo, umoci, squashfs": [*SHELL, squashfs],
        }
        runs = {name: [] for name in cases}
        for number in range(1, ROUNDS + 1):
            for name, command in cases.items():
                remove(made)
                made.mkdir()
                run, _ = measure(command)
                runs[name].append(run)
                print(f"{number}/{ROUNDS} {name}: {run.seconds:.2f} s", file=sys.stderr)
        remove(made)
    print(f"{'':<28}{'time, s':>9}{'CPU, s':>9}{'memory, MB':>12}")
    for name, found in runs.items():
        seconds = statistics.median(run.seconds for run in found)
        cpu = statistics.median(run.cpu for run in found)
        print(f"{name:<28}{seconds:>9.2f}{cpu:>9.2f}{max(run.memory for run in found) / MB:>12.0f}")
    median = {name: statistics.median(run.seconds for run in found) for name, found in runs.items()}
    print_verdicts([
        Verdict("convert: time", median["convert"] / median["umoci unpack, build"], 1.0, "x umoci unpack, build"),
        Verdict("convert: time", median["convert"] / median["skopeo, umoci, squashfs"], 1.0, "x skopeo, umoci, squashfs"),
    ])
