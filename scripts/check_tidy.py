#!/usr/bin/env python3
"""Runs clang-tidy, warnings as errors, over every C++ source whose verdict is not known from an earlier run.

Usage: check_tidy.py [--seconds N] [FILE...]

A file's verdict is a function of the tool, .clang-tidy, the compile command and the bytes of the file and of all that it
includes. Clean ones are remembered under a hash of these inside ccache's folder, for every checkout on the machine. On a
machine without such a memory, files are taken in the order of their latest change, newest first, until the time is over (0: no
limit); the next run goes on from there. Findings are printed; exits 1 if there are any.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/cpu"
TIDY = "clang-tidy-19"
FORGOTTEN_AFTER_DAYS = 60


def output_of(*command):
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"{run.stdout}check_tidy.py: exit {run.returncode}: {' '.join(command)}")
    return run.stdout


@functools.lru_cache(maxsize=None)
def hash_of_file(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def included_files():
    """{object file: the files it was compiled from}, as the build has recorded them."""
    result = {}
    for block in output_of("ninja", "-C", str(BUILD), "-t", "deps").split("\n\n"):
        head, *paths = block.splitlines() or [""]
        result[head.split(":")[0]] = [os.path.normpath(BUILD / path.strip()) for path in paths]
    return result


def keys_of_sources():
    """{source, relative to the root: hash of all that decides its verdict}"""
    includes = included_files()
    common = output_of(TIDY, "--version") + hash_of_file(ROOT / ".clang-tidy")
    result = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        object_file = re.search(r" -o (\S+) ", entry["command"])[1]
        files = includes.get(object_file)
        if not files:
            sys.exit(f"check_tidy.py: the build has no record of {object_file}")
        parts = [common, entry["command"], *(path + hash_of_file(path) for path in files)]
        text = "\n".join(parts).replace(str(ROOT), "")
        source = os.path.relpath(entry["file"], ROOT)
        if not source.startswith("build/"):
            result[source] = hashlib.sha256(text.encode()).hexdigest()
    return result


def newest_first(sources):
    git = ("git", "-c", "safe.directory=*")
    changed = output_of(*git, "ls-files", "--modified", "--others", "--exclude-standard")
    history = changed + output_of(*git, "log", "--format=", "--name-only")
    rank = {}
    for position, path in enumerate(history.splitlines()):
        rank.setdefault(path, position)
    return sorted(sources, key=lambda source: rank.get(source, len(history)))


class Memory:
    """The keys of clean files: empty files whose names are the keys."""

    def __init__(self):
        self._folder = pathlib.Path(output_of("ccache", "--get-config", "cache_dir").strip()) / "clang-tidy"
        self._folder.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - FORGOTTEN_AFTER_DAYS * 86400
        for path in self._folder.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def knows(self, key):
        path = self._folder / key
        if not path.exists():
            return False
        os.utime(path)
        return True

    def add(self, key):
        (self._folder / key).touch()


def check(source, key, memory, deadline):
    """True: clean, and remembered; False: findings, printed; None: no time left."""
    if time.monotonic() > deadline:
        return None
    run = subprocess.run([TIDY, "-p", BUILD, "--quiet", "--warnings-as-errors=*", source], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        print(run.stdout or run.stderr, flush=True)
        return False
    memory.add(key)
    return True


def main():
    parser = argparse.ArgumentParser(description="clang-tidy over what has changed")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    started = time.monotonic()
    deadline = started + arguments.seconds if arguments.seconds > 0 else float("inf")

    # Builds what is not up to date: its records tell what a file includes, and generated headers must exist.
    if not (BUILD / "build.ninja").exists():
        output_of("cmake", "--preset", "cpu")
    output_of("ninja", "-C", str(BUILD), "--quiet", "all", "benches")
    keys = keys_of_sources()
    memory = Memory()
    asked = [os.path.relpath(path, ROOT) for path in arguments.files] or list(keys)
    for source in asked:
        if source not in keys:
            sys.exit(f"check_tidy.py: {source} is no source of the build")
    unknown = [source for source in asked if not memory.knows(keys[source])]

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        verdicts = list(pool.map(lambda source: check(source, keys[source], memory, deadline),
                                 newest_first(unknown)))
    print(f"clang-tidy: {len(asked) - len(unknown)} files known to be clean, {verdicts.count(True)} found clean, "
          f"{verdicts.count(False)} with findings, {verdicts.count(None)} left for the next run; "
          f"{time.monotonic() - started:.0f} s")
    sys.exit(1 if False in verdicts else 0)


if __name__ == "__main__":
    main()
