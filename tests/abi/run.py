#!/usr/bin/env python3
"""Checks that the library in PREFIX has the ABI that the last release promised, and that the check sees what
breaks it and only that:  tests/abi/run.py PREFIX"""

import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

HERE = Path(__file__).parent
DESCRIPTION = HERE / "libpuzzlefs.abi"

loader = SourceFileLoader("abi", str(HERE.parent.parent / "tools/abi"))
abi = importlib.util.module_from_spec(importlib.util.spec_from_loader("abi", loader))
loader.exec_module(abi)

# What somebody may do to the header: a pattern, and what is put there.
UNTAG = r"puzzlefs_status puzzlefs_untag\([^;]*;"
BREAKS = {
    "a function removed": (UNTAG, ""),
    "a function renamed": (r"\bpuzzlefs_status puzzlefs_untag\(", "puzzlefs_status puzzlefs_remove_tag("),
    "an argument added": (r"\bpuzzlefs_status puzzlefs_untag\(", "puzzlefs_status puzzlefs_untag(uint64_t flags, "),
    "an argument widened": (r"\bint fd,", "int64_t fd,"),
    "arguments exchanged": (r"(const struct puzzlefs_image \*image),\s*(int fd),", r"\2, \1,"),
    "another result": (r"puzzlefs_status (puzzlefs_untag\()", r"void \1"),
    "a field inserted": (r"uint32_t threads;", "uint32_t nice; uint32_t threads;"),
    "a field widened": (r"uint32_t threads;", "uint64_t threads;"),
    "a field removed": (r"uint32_t threads;", ""),
    "a field renamed": (r"uint32_t threads;", "uint32_t workers;"),
    "fields exchanged": (r"(puzzlefs_progress_fn progress;)(.*?)(void \*data;)", r"\3\2\1"),
    "a field in place of another": (r"(struct puzzlefs_gc_options \{.*?)uint64_t flags;", r"\1 int64_t mask;"),
    "a value changed": (r"PUZZLEFS_ERR_NO_SPACE = -8\b", "PUZZLEFS_ERR_NO_SPACE = -18"),
    "a value removed": (r"PUZZLEFS_ERR_NO_SPACE = -8,", ""),
    "a flag moved": (r"PUZZLEFS_OPEN_NO_VERIFY = \(1 << 0\)", "PUZZLEFS_OPEN_NO_VERIFY = (1 << 1)"),
    "an enumeration narrowed": (r"(enum puzzlefs_stage.*?): uint32_t", r"\1: uint16_t"),
    "a callback's argument added": (r"\(\*puzzlefs_ended_fn\)\(void \*data\)", "(*puzzlefs_ended_fn)(int why, void *data)"),
}
PASSES = {
    "nothing": (r"\Z", ""),
    "a comment": (r"/\*\*", "/** Otherwise said: "),
    "a parameter renamed": (r"(puzzlefs_status puzzlefs_untag\()const char \*image", r"\1const char *reference"),
    "a function added": (UNTAG, r"\g<0> puzzlefs_status puzzlefs_tag_all(const char *layout, const char *const *tags);"),
    "a handle added": (UNTAG, r"\g<0> typedef struct puzzlefs_new puzzlefs_new; void puzzlefs_new_free(puzzlefs_new *x);"),
    "options grown": (r"\} puzzlefs_build_options;", "uint64_t budget; const char *name; } puzzlefs_build_options;"),
    "a result grown": (r"\} puzzlefs_build_result;", "uint64_t budget; } puzzlefs_build_result;"),
    "what was reserved, used": (r"uint32_t reserved;", "uint32_t nice;"),
    "a status added": (r"PUZZLEFS_ERR_NO_SPACE = -8,", r"\g<0> PUZZLEFS_ERR_NEW = -100,"),
    "flags added": (r"PUZZLEFS_OPEN_NO_VERIFY = \(1 << 0\),", r"\g<0> PUZZLEFS_OPEN_NEW = (1 << 9),"),
}


def changed(header, pattern, replacement):
    result, count = re.subn(pattern, replacement, header, count=1, flags=re.S)
    if count != 1:
        sys.exit(f"the header has no {pattern!r}: correct the table")
    return result


def told(header, versions, old, soname="libpuzzlefs.so.0"):
    """What the check says of a header beside an old description; None if it finds no harm."""
    try:
        abi.compare(old, abi.describe(header, versions, soname))
    except abi.Broken as broken:
        return str(broken)
    return None


def mistakes(header, versions):
    """What the check does not see, and what it sees that does no harm."""
    now = abi.describe(header, versions, "libpuzzlefs.so.0")
    if not told(header, versions, now, soname="libpuzzlefs.so.1"):
        yield "another soname: was not seen"
    if not told(header, {**versions, "puzzlefs_untag": "LIBPUZZLEFS_9"}, now):
        yield "another symbol version: was not seen"
    if not told(header, {**versions, "puzzlefs_undeclared": "LIBPUZZLEFS_9"}, now):
        yield "a function that the header does not have: was not seen"
    for cases, expected in ((BREAKS, True), (PASSES, False)):
        for name, change in cases.items():
            variant = changed(header, *change)
            new_versions = {function: versions.get(function, "LIBPUZZLEFS_9") for function in abi.declarations(variant)[0]}
            harm = told(variant, new_versions, now)
            if bool(harm) != expected:
                yield f"{name}: {harm or 'was not seen'}"


def main(prefix):
    abi.main("check", prefix, DESCRIPTION)
    header = Path(prefix, "include/puzzlefs.h").read_text()
    versions = abi.exports(Path(prefix, "lib/libpuzzlefs.so"))
    found = list(mistakes(header, versions))
    if found:
        sys.exit("\n".join(["the check itself is mistaken:", *found]))
    print(f"the ABI of {len(versions)} functions is what was promised; {len(BREAKS) + 3} breaks are seen, {len(PASSES)} additions pass")


if __name__ == "__main__":
    main(*sys.argv[1:])
