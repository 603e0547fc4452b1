#!/usr/bin/env python3
"""Run conformance scenarios and compare their traces with the .expected files, to the byte.

    check.py --exe build/dev/tests/conformance --case 050_gather_order --backend epoll
    check.py --exe build/dev/tests/conformance            every scenario on every backend

Exit code: 0 equal, 1 different, 77 one scenario was asked for and it cannot run on that backend.

On a loaded machine two timers of a scenario may fall into one batch where the clock is real, so a trace that differs
there is taken again, --retries times. On virtual time every run is the same, and the first one counts.
"""
import argparse
import difflib
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BACKENDS = ("epoll", "uring", "virtual")
SKIPPED = 77


def run(opt, case, backend):
    """The trace and what went wrong besides it, or (None, reason) if the scenario cannot run on the backend."""
    command = [opt.exe, case, "--backend", backend]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    problem = ""
    try:
        out, err = process.communicate(timeout=opt.timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        problem = f"still running after {opt.timeout:g} s\n"
    err = err.decode(errors="replace")
    if process.returncode == SKIPPED:
        return None, err.strip()
    if not problem and process.returncode:
        problem = f"exit code {process.returncode}\n"
    return out, problem and problem + err


def difference(expected, trace):
    lines = difflib.unified_diff(
        expected.decode(errors="backslashreplace").splitlines(),
        trace.decode(errors="backslashreplace").splitlines(), "expected", "printed", lineterm="")
    return "\n".join(lines) or "the traces differ in their line ends"


def check(opt, case, backend):
    """Whether the trace is as expected; None if the scenario was skipped."""
    expected = (HERE / f"{case}.expected").read_bytes()
    for _ in range(1 + (0 if backend == "virtual" else opt.retries)):
        trace, problem = run(opt, case, backend)
        if trace is None:
            print(f"{case} {backend}: {problem}")
            return None
        if trace == expected and not problem:
            return True
    print(f"{case} {backend}: FAILED")
    if trace != expected:
        print(difference(expected, trace))
    if problem:
        print(problem)
    return False


def all_cases():
    return sorted(path.stem for path in HERE.glob("[0-9][0-9][0-9]_*.cpp"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exe", required=True)
    parser.add_argument("--case", action="append", help="default: all")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="default: all")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=30, help="seconds for one run")
    opt = parser.parse_args()
    results = [check(opt, case, backend)
               for case in opt.case or all_cases() for backend in opt.backend or BACKENDS]
    if len(results) > 1:
        print(f"{results.count(True)} equal, {results.count(False)} different, {results.count(None)} skipped")
    if False in results:
        return 1
    return SKIPPED if results == [None] else 0


if __name__ == "__main__":
    sys.exit(main())
