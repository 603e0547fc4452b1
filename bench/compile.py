"""The row `compile` of run.py: what it costs to compile the programs of compile/, with each compiler.

CPU seconds and megabytes are those of the compiler's processes. "front end" is -fsyntax-only; for "-O2, pch" coil.hpp
was precompiled with the same flags, which is a line of its own. "linked kB" is the program as the build directory has
it, stripped: coil is in it, the system's libraries are not. `./dev bench` builds hello only, `./dev build release` all.
A ratio is ours to the baseline.
"""

import glob
import math
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parent / "include"
FLAGS = ["-std=c++20", "-O2"]
METRICS = {"compile_cpu_s", "compile_mb"}

FULL, FRONT_END, WITH_PCH, MAKING_PCH = "-O2", "front end", "-O2, pch", "making the pch"
ON_COIL = {
    "include": [FULL, FRONT_END, MAKING_PCH],
    "hello": [FULL, FRONT_END, WITH_PCH],
    "chat": [FULL, FRONT_END, WITH_PCH],
    "redis": [FULL, FRONT_END, WITH_PCH],
}
PEERS = {
    "asio_include": [FULL, FRONT_END],
    "asio_echo": [FULL, FRONT_END],
    "coroutine": [FULL],
    "empty": [FULL],
}
PROGRAMS = ON_COIL | PEERS


@dataclass(frozen=True)
class Headers:
    """A folder of coil's headers; `suffix` tells the two apart in what is stored."""

    folder: Path
    suffix: str


@dataclass(frozen=True)
class Compiler:
    name: str
    path: str
    is_clang: bool

    def precompile(self, headers, scratch):
        """The command that precompiles coil.hpp. GCC wants the result beside a header of that name."""
        header = scratch / f"pch{headers.suffix}" / "all_of_coil.hpp"
        header.parent.mkdir(exist_ok=True)
        header.write_text("#include <coil/coil.hpp>\n")
        result = header.with_name(header.name + (".pch" if self.is_clang else ".gch"))
        return [self.path, *FLAGS, "-I", headers.folder, "-x", "c++-header", header, "-o", result]

    def compile(self, program, how, headers, scratch):
        command = [self.path, *FLAGS, HERE / "compile" / f"{program}.cpp"]
        if program in ON_COIL:
            command += ["-I", headers.folder]
        if how == WITH_PCH:
            header = scratch / f"pch{headers.suffix}" / "all_of_coil.hpp"
            if self.is_clang:
                command += ["-include-pch", f"{header}.pch"]
            else:
                command += ["-include", header, "-Werror=invalid-pch"]
        if how == FRONT_END:
            return command + ["-fsyntax-only"]
        return command + ["-c", "-o", scratch / "program.o"]


def find_compilers():
    """clang++-19, else the newest Clang there is, and g++."""
    found = []
    numbered = {int(match[1]): path
                for folder in os.get_exec_path() for path in glob.glob(f"{folder}/clang++-*")
                if (match := re.fullmatch(r"clang\+\+-(\d+)", Path(path).name))}
    clang = shutil.which("clang++-19") or (numbered[max(numbered)] if numbered else shutil.which("clang++"))
    if clang:
        found.append(Compiler(Path(clang).name, clang, True))
    if gcc := shutil.which("g++"):
        found.append(Compiler("g++", gcc, False))
    return found


def run_compiler(machine, command):
    """(CPU seconds, megabytes) of the process and those that it starts."""
    environment = {**os.environ, "CCACHE_DISABLE": "1", "LC_ALL": "C"}
    with tempfile.TemporaryFile() as log:
        process = machine.start(command, {machine.cpu}, env=environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            errors = re.findall(r".*error.*", log.read().decode(errors="replace"))
            raise RuntimeError(errors[0] if errors else f"status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def variants(options):
    """What there is to do in a round: (program, how, headers)."""
    ours = Headers(INCLUDE, "")
    both = [ours] + ([Headers(options.baseline, " baseline")] if options.baseline else [])
    # Every program once, then every program in another way: the pch is made before it is used.
    for how in (MAKING_PCH, FULL, FRONT_END, WITH_PCH):
        for program, ways in PROGRAMS.items():
            if how in ways and (program in options.sources or how == MAKING_PCH):
                for headers in both if program in ON_COIL else [ours]:
                    yield program, how, headers


def measure_programs(options, machine, results, progress):
    """The row. Adds samples of METRICS, by "program, how" and compiler."""
    with tempfile.TemporaryDirectory() as directory:
        rounds = math.ceil(options.rounds * 0.6)
        for turn in range(rounds):
            for compiler in find_compilers():
                scratch = Path(directory) / compiler.name
                scratch.mkdir(exist_ok=True)
                for program, how, headers in variants(options):
                    column = compiler.name + headers.suffix
                    name = f"compile {program}, {how}, {column}"
                    if name in results.failed or (how == MAKING_PCH and turn > 0):
                        continue
                    progress(f"compile: round {turn + 1} of {rounds}: {column}: {program}, {how}")
                    command = (compiler.precompile(headers, scratch) if how == MAKING_PCH
                               else compiler.compile(program, how, headers, scratch))
                    try:
                        seconds, megabytes = run_compiler(machine, command)
                        results.add("compile_cpu_s", f"{program}, {how}", column, seconds)
                        results.add("compile_mb", f"{program}, {how}", column, megabytes)
                    except RuntimeError as error:
                        results.failure(name, error)


def stripped_kilobytes(build, program):
    """The size of a program in a build directory without its symbols; None if it is not there."""
    places = [build / "bench" / f"bench_compile_{program}"]
    if program == "hello":
        places.append(build / "examples" / "01_hello")  # the same program
    for place in places:
        if place.exists():
            with tempfile.NamedTemporaryFile() as copy:
                subprocess.run(["strip", "-o", copy.name, place], check=True)
                return os.path.getsize(copy.name) / 1000
    return None


def linked_sizes(options, program):
    """Ours, and the baseline's if its checkout has a build directory of the same name."""
    sizes = [stripped_kilobytes(options.build, program)]
    build = options.build.resolve()
    if options.baseline and program in ON_COIL and build.is_relative_to(HERE.parent):
        checkout = options.baseline.resolve().parent
        sizes.append(stripped_kilobytes(checkout / build.relative_to(HERE.parent), program))
    return sizes


def cells(values, number):
    """Ours, and with a baseline the ratio to it."""
    if len(values) == 1:
        return [number(values[0])]
    ours, baseline = values
    return [number(ours), f"{ours / baseline:.2f}" if ours and baseline else "-"]


def table(options, results, number):
    """The lines to print, the first of them the titles; nothing without samples."""
    if METRICS.isdisjoint(metric for metric, _ in results.samples):
        return []
    compilers = [compiler.name for compiler in find_compilers()]
    suffixes = ["", " baseline"] if options.baseline else [""]
    titles = ["program", "compiled", "lines"]
    for measured in [f"{compiler} {unit}" for compiler in compilers for unit in ("s", "MB")] + ["linked kB"]:
        titles += [measured] + (["ratio"] if options.baseline else [])
    lines = []
    for program, ways in PROGRAMS.items():
        source = (HERE / "compile" / f"{program}.cpp").read_text()
        for how in ways:
            if ("compile_cpu_s", f"{program}, {how}") not in results.samples:
                continue
            line = [program, how, str(source.count("\n"))]
            for compiler in compilers:
                for metric in ("compile_cpu_s", "compile_mb"):
                    medians = results.medians((metric, f"{program}, {how}"))
                    line += cells([medians.get(compiler + suffix) for suffix in suffixes], number)
            sizes = linked_sizes(options, program) if how == FULL else []
            sizes += [None] * (len(suffixes) - len(sizes))
            lines.append(line + cells(sizes, number))
    return [titles, *lines]
