#!/usr/bin/env python3
"""Checks that every public header compiles alone, twice over, on both compilers, and stays cheap to include."""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "include"
COMPILERS = ["clang++-19", "g++"]
FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Werror"]

FORBIDDEN = set(
    "algorithm cmath condition_variable deque filesystem functional iostream list map mutex ranges regex set sstream thread"
    " unordered_map unordered_set variant".split()
)
# Headers that coil.hpp leaves out.
OPT_IN = {"coil/format.hpp", "coil/process_pool.hpp"}


def forbidden(included: str) -> str | None:
    if included in FORBIDDEN:
        return "is expensive to include: declare what you need and include it in a .cpp"
    if included.startswith("fmt/"):
        return "is expensive to include: only coil/format.hpp brings it"
    if included.startswith("openssl/"):
        return "is OpenSSL's: keep its types behind a pointer and include it in src/io"
    if included.endswith(".h"):
        return "belongs to the operating system or to C: include it in a .cpp, or its <c...> form here"
    return None


def check_includes(header: Path) -> list[str]:
    problems = []
    name = header.relative_to(INCLUDE).as_posix()
    for number, line in enumerate(header.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match and name not in OPT_IN and (reason := forbidden(match[1])):
            problems.append(f"{header.relative_to(ROOT)}:{number}: <{match[1]}> {reason}")
    return problems


def compile_alone(compiler: str, header: Path) -> str | None:
    name = header.relative_to(INCLUDE).as_posix()
    finished = subprocess.run(
        [compiler, *FLAGS, f"-I{INCLUDE}", "-fsyntax-only", "-x", "c++", "-"],
        input=f"#include <{name}>\n#include <{name}>\n",
        capture_output=True,
        text=True,
    )
    if finished.returncode == 0:
        return None
    return f"include/{name}: does not compile alone with {compiler}\n{finished.stderr}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()

    headers = sorted(INCLUDE.rglob("*.hpp"))
    problems = [problem for header in headers for problem in check_includes(header)]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda job: compile_alone(*job), [(c, h) for h in headers for c in COMPILERS])
        problems += [problem for problem in results if problem]

    print("\n".join(problems) if problems else f"{len(headers)} public headers compile alone")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
