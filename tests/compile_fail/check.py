#!/usr/bin/env python3
"""Checks that a wrong use of coil does not compile, and says why in the compiler's message.

    check.py FILE -- COMPILER FLAG...

FILE starts with lines `// FAIL: <regex>`, each of which must match what the compiler prints, and has its wrong
line between `#ifndef COIL_COMPILE_FAIL_BASELINE` and `#endif`: without that line it must compile, so that it fails
for no other reason. A discarded [[nodiscard]] value is an error here.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path


def compile_file(compiler: list[str], source: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [*compiler, "-Wall", "-Wextra", "-Werror=unused-result", "-fsyntax-only", *flags, str(source)]
    return subprocess.run(command, capture_output=True, text=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("compiler", nargs="+")
    args = parser.parse_args()

    text = args.source.read_text()
    patterns = re.findall(r"^// FAIL: (.+?)\s*$", text, re.MULTILINE)
    if not patterns or "COIL_COMPILE_FAIL_BASELINE" not in text:
        print(f"{args.source}: needs a line '// FAIL: <regex>' and an #ifndef COIL_COMPILE_FAIL_BASELINE")
        return 1

    baseline = compile_file(args.compiler, args.source, "-DCOIL_COMPILE_FAIL_BASELINE")
    if baseline.returncode != 0:
        print(f"{args.source}: does not compile without its wrong line either\n{baseline.stderr}")
        return 1

    wrong = compile_file(args.compiler, args.source)
    if wrong.returncode == 0:
        print(f"{args.source}: the wrong line compiles")
        return 1

    missing = [pattern for pattern in patterns if not re.search(pattern, wrong.stderr)]
    for pattern in missing:
        print(f"{args.source}: the compiler's message does not match /{pattern}/")
    if missing:
        print(wrong.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
