#!/usr/bin/env python3
"""Runs a program: it must exit with 0 and, if the file of expected output exists, print exactly that.

With 77 the program says that it cannot run here, and why on stderr; that is passed on, for CTest to skip the test.

    check_output.py --expected FILE -- PROGRAM ARG...
"""

import argparse
import difflib
import subprocess
import sys
from pathlib import Path

SKIPPED = 77


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    finished = subprocess.run(args.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    actual = finished.stdout.decode(errors="replace")
    if finished.returncode == SKIPPED:
        return SKIPPED
    if finished.returncode != 0:
        print(f"{actual}\n{args.command[0]}: exit status {finished.returncode}, not 0")
        return 1
    if not args.expected.exists():
        print(actual, end="")
        return 0

    expected = args.expected.read_bytes()
    if finished.stdout == expected:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            expected.decode().splitlines(keepends=True),
            actual.splitlines(keepends=True),
            str(args.expected),
            "printed",
        )
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
