#!/usr/bin/env python3
"""The fuzzer: makes programs from seeds, runs them on coil and on CPython's asyncio, and compares the traces.

    fuzz.py --coil INTERPRETER [--seconds N] [--seed N] [--python PYTHON]   compare until the time is over, or one seed
    fuzz.py --coil INTERPRETER --corpus                                     compare the programs in corpus/ with their traces
    fuzz.py --record                                                        write the traces in corpus/ anew, by this Python

A program whose traces differ is made smaller while they differ, and printed with both traces and the seed. Behaviour is that of
CPython 3.13, and the traces in corpus/ are recorded by it, so an older Python is only good for --corpus.
"""

import argparse
import itertools
import os
import pathlib
import random
import subprocess
import sys
import time

import programs

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"
CORPUS_SEEDS = 60
BATCH = 200
NEEDED = (3, 13)


def split(output):
    """The traces in an interpreter's output. What comes after the last "end" is the trace of a program that did not end."""
    traces = [[]]
    for line in output.splitlines():
        if line == "end":
            traces.append([])
        else:
            traces[-1].append(line)
    return traces[:-1]


def run(command, lines):
    """The traces of the programs, one list of lines each; a program that crashes or hangs the interpreter has None."""
    traces = []
    while len(traces) < len(lines):
        try:
            done = subprocess.run(command, input="\n".join(lines[len(traces):]) + "\n", capture_output=True, text=True,
                                  timeout=60)
            output, complete = done.stdout, done.returncode == 0
        except subprocess.TimeoutExpired as e:
            output, complete = (e.stdout or b"").decode(), False
        traces += split(output)
        if not complete and len(traces) < len(lines):
            traces.append(None)
        elif complete and len(traces) < len(lines):
            raise RuntimeError(f"{command[0]} printed too few traces")
    return traces


def find_python():
    """A Python that is new enough: this one, or one on the path."""
    if sys.version_info >= NEEDED:
        return sys.executable
    for minor in range(20, NEEDED[1] - 1, -1):
        for folder in os.environ["PATH"].split(os.pathsep):
            candidate = os.path.join(folder, f"python3.{minor}")
            if os.access(candidate, os.X_OK) and subprocess.run(
                    [candidate, "-c", f"import sys; sys.exit(sys.version_info < {NEEDED})"],
                    stderr=subprocess.DEVNULL).returncode == 0:
                return candidate
    sys.exit(f"fuzz: needs Python {NEEDED[0]}.{NEEDED[1]} or newer on the path: behaviour differs in older ones")


def shrink(program, differs):
    """The smallest program found that still differs."""
    progress = True
    while progress:
        progress = False
        for candidate in programs.smaller(program):
            if differs(candidate):
                program, progress = candidate, True
                break
    return program


def report(title, program, coil, python):
    print(f"\n{title}\n\n{programs.pretty(program)}\n\n  on one line: {program}\n")
    if coil is None:
        print("coil crashed or hung; CPython's trace:")
        coil = []
    width = max([len(line) for line in coil] + [20])
    print(f"    {'coil':{width}} | CPython")
    for ours, theirs in itertools.zip_longest(coil, python or [], fillvalue=""):
        print(f"  {'  ' if ours == theirs else '! '}{ours:{width}} | {theirs}")


def compare(coil, python, seeds):
    """Says how many seeds differ; reports the first, shrunk."""
    made = [programs.Generator(seed).program() for seed in seeds]
    lines = [str(program) for program in made]
    ours, theirs = run(coil, lines), run(python, lines)
    different = [i for i in range(len(lines)) if ours[i] != theirs[i]]
    if different:
        first = different[0]

        def differs(program):
            line = [str(program)]
            return run(coil, line) != run(python, line)

        small = shrink(made[first], differs)
        report(f"seed {seeds[first]}", small, run(coil, [str(small)])[0], run(python, [str(small)])[0])
    return len(different)


def fuzz(coil, seconds, seed):
    python = [find_python(), str(HERE / "interpreter.py")]
    if seed is not None:
        return compare(coil, python, [seed])
    start, compared, different = time.monotonic(), 0, 0
    base = random.SystemRandom().randrange(1 << 40)
    while time.monotonic() - start < seconds and not different:
        different = compare(coil, python, range(base + compared, base + compared + BATCH))
        compared += BATCH
    print(f"fuzz: {compared} programs compared, from seed {base}; {different} of the last {BATCH} differ"
          if different else f"fuzz: {compared} programs compared, from seed {base}: all traces equal")
    return different


def check_corpus(coil):
    failed = 0
    for path in sorted(CORPUS.glob("*.txt")):
        lines = path.read_text().splitlines()
        expected = split(path.with_suffix(".expected").read_text())
        for line, ours, theirs in zip(lines, run(coil, lines), expected, strict=True):
            if ours != theirs:
                failed += 1
                report(path.name, programs.parse(line), ours, theirs)
    print(f"fuzz: corpus: {failed} differ")
    return failed


def record():
    if sys.version_info < NEEDED:
        sys.exit("fuzz: the traces are to be recorded by a newer Python")
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / "seeds.txt").write_text("".join(f"{programs.Generator(s).program()}\n" for s in range(CORPUS_SEEDS)))
    for path in sorted(CORPUS.glob("*.txt")):
        traces = run([sys.executable, str(HERE / "interpreter.py")], path.read_text().splitlines())
        path.with_suffix(".expected").write_text("".join("\n".join([*trace, "end\n"]) for trace in traces))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--coil", help="the program fuzz_interpreter")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--corpus", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.record:
        return record()
    coil = [options.coil]
    return 1 if (check_corpus(coil) if options.corpus else fuzz(coil, options.seconds, options.seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
