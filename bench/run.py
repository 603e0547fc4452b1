#!/usr/bin/env python3
"""Runs coil's benchmarks and the same programs on its peers, and prints them side by side.

Each round runs every program of a row once, one after the other; the table shows medians. Values are
nanoseconds per operation unless the row says bytes or mallocs; for a server, nanoseconds of its CPU per
message, connection, MiB (tls_throughput) or full handshake (tls_handshake: 1e9 divided by it is handshakes per
second of CPU). A program that is not built shows as '-'.

The row compile has a table of its own: the CPU seconds and megabytes that clang++ and g++ take for the programs of
compile/, with -O2, for the front end alone and with coil's header precompiled, and the programs' sizes. With
--baseline DIR the headers in DIR, those of another checkout, take turns with ours. See compile.py.

Rows: call_soon sleep0 sleep0_poll spawn_await child_await timers cross_thread wake_up to_thread queue_handover
lock event gather100 taskgroup100 timeout exceptions cancel_join sleeping_memory spawn (in process), echo
echo_accept echo_idle tls_echo tls_throughput tls_handshake (a server on loopback), compile. Without arguments all of
them run, which takes some twenty minutes.
"""

import argparse
import json
import math
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import compile as compile_row

HERE = Path(__file__).resolve().parent

# ---- what is run

ROWS = ["call_soon", "sleep0", "sleep0_poll", "spawn_await", "child_await", "timers", "cross_thread",
        "wake_up", "to_thread", "queue_handover", "lock", "event", "gather100", "taskgroup100", "timeout", "exceptions",
        "cancel_join", "sleeping_memory", "spawn"]
PEERS = ["coil", "limit", "asio", "uv", "python", "uvloop"]
TWO_CPU_ROWS = {"cross_thread", "wake_up", "to_thread"}  # threads that must not take turns on one CPU
UVLOOP_ROWS = {"cancel_join"}  # where uvloop is what the target names
MEMORY_ROWS = {"sleeping_memory", "echo_idle"}  # no noise: one round is enough

COIL_READS = ["read", "read_into", "read_into_shared", "protocol"]
SERVER_PEERS = ["epoll", "openssl", "uv", "asio_callbacks", "asio_coroutines"]


@dataclass(frozen=True)
class ServerRow:
    """A row whose programs are the servers of echo/, and what the load generator does to them."""

    metric: str
    measured: str  # as the load generator calls it
    scenarios: tuple  # "c64s1024": 64 connections, messages of 1024 bytes; how connections end
    mode: str = "echo"
    reads: tuple = ("read", "read_into", "protocol")
    tls: bool = False

    def peers(self):
        return [peer for peer in SERVER_PEERS if peer not in (("epoll", "uv") if self.tls else ("openssl",))]


ECHO = ["c1s64", "c64s64", "c1000s64", "c8000s64", "c64s1024", "c64s16384", "c64s65536"]
SERVER_ROWS = {
    "echo": ServerRow("echo", "server_ns_per_message", ECHO, reads=COIL_READS),
    "echo_accept": ServerRow("echo_accept", "server_ns_per_connection", ["fin", "reset"], mode="accept"),
    "echo_idle": ServerRow("echo_idle_bytes", "server_bytes_per_connection", ["c10000"], mode="idle",
                           reads=COIL_READS),
    "tls_echo": ServerRow("tls_echo", "server_ns_per_message", ["c1s64", "c64s1024"], tls=True),
    "tls_throughput": ServerRow("tls_throughput", "server_ns_per_mebibyte", ["c1s65536"], tls=True),
    "tls_handshake": ServerRow("tls_handshake", "server_ns_per_connection", ["fin"], mode="accept", tls=True),
}
PYTHON_SERVERS = {
    "asyncio_streams": ["streams"],
    "asyncio_protocol": ["protocol"],
    "uvloop_streams": ["streams", "--uvloop"],
    "uvloop_protocol": ["protocol", "--uvloop"],
}

# ---- what is to be reached

# metric, or (metric, parameter): [(peer, greatest ratio to it)], or the greatest value where the peer is None
TARGETS = {
    ("call_soon", "batch_1000"): [("asio", 0.4)],
    "sleep0": [("asio", 0.2)],
    "sleep0_poll": [("limit", 1.2)],
    "spawn_await": [("asio", 0.25)],
    "spawn_await_mallocs": [(None, 0)],
    "child_await": [("asio", 0.6)],
    "child_await_mallocs": [(None, 0)],
    "timer_schedule_cancel": [("asio", 0.4)],
    "timer_schedule": [("asio", 0.4)],
    "timer_cancel": [("asio", 0.15)],
    "timer_schedule_fire": [("asio", 0.5)],
    "cross_thread": [("asio", 0.25)],
    "queue_handover": [("asio", 0.2)],
    ("lock", "uncontended"): [("limit", 5)],
    ("lock", "handed_over"): [("limit", 4)],
    "exception": [("limit", 1.1)],
    "cancel_join": [("uvloop", 0.5)],
    "sleeping_task_bytes": [(None, 450)],
    "echo_accept": [("uv", 1.0)],
    "tls_echo": [("openssl", 1.1)],
    "tls_throughput": [("openssl", 1.1)],
    "tls_handshake": [("openssl", 1.1)],
}
AHEAD_OF = [("uv", 1.0), ("asio_callbacks", 1.0), ("asio_coroutines", 1.0)]


def server_target(metric, read, scenario):
    if metric == "echo_idle_bytes":
        return [(None, 300 if read == "protocol" else 500)]
    if metric != "echo":
        return TARGETS[metric]
    if read == "read":
        return [("epoll", 1.08)] + AHEAD_OF
    limits = {"c8000s64": 0.95, "c64s16384": 1.02, "c64s65536": 1.02}
    return [("epoll", limits.get(scenario, 1.0))] + AHEAD_OF


# ---- running programs


class Machine:
    """Where and how the programs run."""

    def __init__(self, options):
        cpus = sorted(os.sched_getaffinity(0))
        self.cpu = options.pin if options.pin is not None else cpus[-1]
        if self.cpu not in cpus:
            sys.exit(f"run.py: CPU {self.cpu} is not one of {cpus}")
        self.cpus = set(cpus)
        self.other_cpu = next((cpu for cpu in cpus if cpu != self.cpu), self.cpu)
        self.fifo = options.sched == "fifo" and self.may_use_fifo()

    @staticmethod
    def may_use_fifo():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            return False
        return True

    def start(self, argv, cpus, **popen):
        def prepare():
            os.sched_setaffinity(0, cpus)
            if self.fifo:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        return subprocess.Popen([str(arg) for arg in argv], preexec_fn=prepare, **popen)

    def run(self, argv, cpus, env=None, timeout=120):
        """The lines that the program prints, as (metric, parameter, value)."""
        process = self.start(argv, cpus, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RuntimeError(f"no end after {timeout} s") from None
        if process.returncode != 0:
            raise RuntimeError(f"status {process.returncode}: {err.strip()[-300:]}")
        fields = (line.split("\t") for line in out.splitlines())
        return [(metric, parameter, float(value)) for metric, parameter, value in fields]


class Results:
    """Samples by (metric, parameter) and program."""

    def __init__(self):
        self.samples = {}
        self.failed = set()

    def add(self, metric, parameter, program, value):
        self.samples.setdefault((metric, parameter), {}).setdefault(program, []).append(value)

    def failure(self, program, error):
        """Reports a failing program once; what fails is not run again."""
        self.failed.add(program)
        print(f"\r{program}: {error}", file=sys.stderr)

    def medians(self, key):
        return {program: statistics.median(values) for program, values in self.samples[key].items()}


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def coil_environment(backend):
    return {**os.environ, "COIL_BACKEND": backend} if backend else dict(os.environ)


def run_row(row, options, machine, results):
    programs = {peer: [options.programs / f"bench_{row}_{peer}"] for peer in PEERS[:4]}
    if options.python:
        programs["python"] = [options.python, HERE / row / "python.py"]
        if row in UVLOOP_ROWS or options.uvloop:
            programs["uvloop"] = programs["python"] + ["--uvloop"]
    programs = {peer: argv for peer, argv in programs.items()
                if all(Path(file).exists() for file in argv[:2])}
    cpus = machine.cpus if row in TWO_CPU_ROWS else {machine.cpu}
    for turn in range(1 if row in MEMORY_ROWS else options.rounds):
        for peer, argv in programs.items():
            name = f"{row}/{peer}"
            if name in results.failed or (peer in ("python", "uvloop") and turn >= 3):
                continue
            progress(f"{row}: round {turn + 1} of {options.rounds}: {peer}")
            env = coil_environment(options.backend) if peer == "coil" else None
            try:
                for metric, parameter, value in machine.run(argv, cpus, env):
                    results.add(metric, parameter, peer, value)
            except RuntimeError as error:
                results.failure(name, error)


# ---- servers


def new_certificate(path):
    """A self-signed one, with its key in the same file."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
               "2", "-subj", "/CN=localhost", "-keyout", path, "-out", f"{path}.crt"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"making a certificate: {error}") from None
    with open(path, "a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


def servers_of(row, options):
    """{name: (argv before the port, arguments after it, environment)} of what is there."""
    servers = {}
    program = options.programs / "bench_echo_coil"
    backends = [options.backend] if options.backend else ["uring", "epoll"]
    if program.exists():
        for read in [read for read in options.reads if read in row.reads]:
            for backend in backends:
                servers[f"coil {read} {backend}"] = ([program], [read], coil_environment(backend))
    for peer in row.peers():
        program = options.programs / f"bench_echo_{peer}"
        if program.exists():
            servers[peer] = ([program], [], None)
    if options.python:
        for name, arguments in PYTHON_SERVERS.items():
            servers[name] = ([options.python, HERE / "echo" / "python.py"], arguments, None)
    return servers


def start_server(machine, argv, arguments, env, log):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = argv + [port] + arguments
    server = machine.start(command, {machine.cpu}, env=env, stdout=subprocess.DEVNULL, stderr=log)
    deadline = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            time.sleep(0.02)
            return server, port
        except OSError:
            if server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
        stop_server(server)
        log.seek(0)
        raise RuntimeError(f"does not listen: {log.read().decode(errors='replace').strip()[-300:]}")


def stop_server(server):
    server.terminate()
    try:
        server.wait(1)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def load_arguments(row, scenario, options):
    arguments = ["--mode", row.mode] + (["--tls", 1] if row.tls else [])
    if row.mode == "accept":
        arguments += ["--end", scenario]
    else:
        connections, _, size = scenario[1:].partition("s")
        arguments += ["--connections", connections, "--size", size or 1]
    return arguments + ["--seconds", options.seconds, "--warm", 0.2]


def has_descriptors(row, scenario):
    if row.mode == "accept":
        return True
    needed = int(scenario[1:].partition("s")[0]) + 100
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return True
    print(f"{row.metric} {scenario}: left out: it needs {needed} descriptors and the hard limit is {hard} "
          "(ulimit -Hn)", file=sys.stderr)
    return False


def measure_server(row, scenario, server, options, machine):
    """The value of one run; `server` as in servers_of."""
    argv, arguments, env = server
    load = options.programs / "bench_echo_load"
    client_cpu = machine.other_cpu if scenario == "c8000s64" else machine.cpu
    with tempfile.TemporaryFile() as log:
        process, port = start_server(machine, argv, arguments, env, log)
        try:
            command = [load, "--port", port, "--pid", process.pid] + load_arguments(row, scenario, options)
            lines = machine.run(command, {client_cpu})
        finally:
            stop_server(process)
    return next(value for metric, _, value in lines if metric == row.measured)


def run_server_row(name, options, machine, results):
    row = SERVER_ROWS[name]
    if not (options.programs / "bench_echo_load").exists():
        return results.failure(name, "bench_echo_load is not built")
    servers = servers_of(row, options)
    with tempfile.TemporaryDirectory() as directory:
        if row.tls:
            try:
                certificate = new_certificate(f"{directory}/server.pem")
            except RuntimeError as error:
                return results.failure(name, error)
            servers = {server: (argv, arguments + [certificate], env)
                       for server, (argv, arguments, env) in servers.items()}
        for scenario in options.scenarios if name == "echo" else row.scenarios:
            if has_descriptors(row, scenario):
                run_scenario(name, scenario, servers, options, machine, results)


def run_scenario(name, scenario, servers, options, machine, results):
    row = SERVER_ROWS[name]
    for turn in range(1 if name in MEMORY_ROWS else math.ceil(options.rounds * 0.6)):
        for server, how in servers.items():
            full_name = f"{name} {scenario}/{server}"
            if full_name in results.failed or (server in PYTHON_SERVERS and turn >= 1):
                continue
            progress(f"{name} {scenario}: round {turn + 1}: {server}")
            try:
                value = measure_server(row, scenario, how, options, machine)
                results.add(row.metric, scenario, server, value)
            except RuntimeError as error:
                results.failure(full_name, error)


# ---- the table


def judge(coil, peers, targets):
    """(ratio or None, target as text, verdict) of one line."""
    if not targets:
        return None, "", ""
    ratio = None
    missed = []
    judged = 0
    for number, (peer, limit) in enumerate(targets):
        reference = 1 if peer is None else peers.get(peer)
        if coil is None or not reference:
            continue
        judged += 1
        value = round(coil / reference, 2)
        if number == 0:
            ratio = value if peer else None
        if value > limit:
            missed.append(f"{peer} {value:.2f}" if number > 0 else "")
    peer, limit = targets[0]
    text = f"<= {limit:g} {peer}" if peer else f"<= {limit:g}"
    if len(targets) > 1:
        text += ", ahead of " + " ".join(sorted({peer.split("_")[0] for peer, _ in targets[1:]}))
    if not judged:
        return ratio, text, "-"
    verdict = "met" if not missed else " ".join(["missed"] + [reason for reason in missed if reason])
    return ratio, text, verdict


SERVER_METRICS = {row.metric for row in SERVER_ROWS.values()}


def in_process_lines(results):
    for metric, parameter in results.samples:
        if metric in SERVER_METRICS | compile_row.METRICS:
            continue
        medians = results.medians((metric, parameter))
        targets = TARGETS.get((metric, parameter), TARGETS.get(metric))
        yield metric, parameter, medians.pop("coil", None), medians, targets


def server_lines(results):
    for metric, scenario in results.samples:
        if metric not in SERVER_METRICS:
            continue
        medians = results.medians((metric, scenario))
        peers = {name: value for name, value in medians.items() if not name.startswith("coil ")}
        coil = {name: value for name, value in medians.items() if name.startswith("coil ")}
        for name, value in (coil or {"coil": None}).items():
            variant = name.removeprefix("coil").strip()
            read = variant.split(" ")[0]
            targets = server_target(metric, read, scenario)
            yield f"{metric} {variant}".strip(), scenario, value, peers, targets


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_table(lines, peer_order):
    lines = list(lines)
    if not lines:
        return
    peers = [peer for peer in peer_order if any(peer in line[3] for line in lines)]
    table = [["row", "parameter", "coil", *peers, "ratio", "target", ""]]
    for metric, parameter, coil, values, targets in lines:
        ratio, target, verdict = judge(coil, values, targets)
        ratio = "-" if ratio is None else f"{ratio:.2f}"
        values = [number(values.get(peer)) for peer in peers]
        table.append([metric, parameter, number(coil), *values, ratio, target, verdict])
    print_columns(table, range(2, 4 + len(peers)))


def print_columns(table, numeric):
    """In columns; those whose numbers are in `numeric` are aligned to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = (cell.rjust(width) if i in numeric else cell.ljust(width)
                 for i, (cell, width) in enumerate(zip(row, widths)))
        print("  ".join(cells).rstrip())
    print()


def write_json(path, options, machine, results):
    entries = []
    for metric, parameter, coil, peers, targets in [*in_process_lines(results), *server_lines(results)]:
        ratio, target, verdict = judge(coil, peers, targets)
        line = {"metric": metric, "parameter": parameter, "coil": coil, "peers": peers}
        entries.append(line | {"ratio": ratio, "target": target, "verdict": verdict})
    samples = [{"metric": metric, "parameter": parameter, "samples": programs}
               for (metric, parameter), programs in results.samples.items()]
    document = {"kernel": platform.release(), "rounds": options.rounds, "cpu": machine.cpu,
                "fifo": machine.fifo, "lines": entries, "samples": samples}
    Path(path).write_text(json.dumps(document, indent=1) + "\n")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("rows", nargs="*", metavar="row", help="rows to run (default: all)")
    add("--build", required=True, type=Path, help="build directory, configured with COIL_BUILD_BENCHMARKS=ON")
    add("--rounds", type=int, default=5,
        help="rounds per row (default 5); servers and compile do three fifths of them, python at most three in "
             "process and one as a server, rows about memory one")
    add("--pin", type=int, metavar="CPU",
        help="CPU for the programs, and for both server and client (default: the last; c8000s64 puts the client "
             "on another)")
    add("--sched", choices=["fifo", "other"], default="fifo",
        help="fifo: real-time scheduling where permitted, so that other work counts little (default)")
    add("--backend", choices=["uring", "epoll"],
        help="coil's backend (default: its own choice in process, both as a server)")
    add("--python", default="/usr/bin/python3",
        help="python for the asyncio and uvloop programs, '' for none (default: %(default)s)")
    add("--uvloop", action="store_true", help="run the python programs on uvloop too, in every row")
    add("--scenarios", default=",".join(ECHO), help="of echo (default: %(default)s)")
    add("--reads", default=",".join(COIL_READS), help="of coil's server (default: %(default)s)")
    add("--seconds", type=float, default=0.7, help="window of one measurement of a server (default 0.7)")
    add("--sources", default=",".join(compile_row.PROGRAMS), help="of compile (default: %(default)s)")
    add("--baseline", metavar="INCLUDE_DIR", type=Path,
        help="of compile: another checkout's include/, to compare our headers with")
    add("--json", metavar="FILE", help="write the table and every sample to FILE")
    options = parser.parse_args()
    rows = ROWS + list(SERVER_ROWS) + ["compile"]
    options.rows = options.rows or rows
    unknown = [row for row in options.rows if row not in rows]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
    options.scenarios = options.scenarios.split(",")
    options.reads = options.reads.split(",")
    options.sources = options.sources.split(",")
    options.programs = options.build / "bench" if (options.build / "bench").is_dir() else options.build
    if options.rows != ["compile"] and not list(options.programs.glob("bench_*")):
        parser.error(f"no benchmark is built in {options.programs}")
    if options.baseline and not (options.baseline / "coil" / "coil.hpp").exists():
        parser.error(f"no coil/coil.hpp in {options.baseline}")
    if options.python and not Path(options.python).exists():
        options.python = None
    return options


def main():
    options = parse_options()
    machine = Machine(options)
    results = Results()
    started = time.monotonic()
    for row in options.rows:
        if row == "compile":
            compile_row.measure_programs(options, machine, results, progress)
        else:
            (run_server_row if row in SERVER_ROWS else run_row)(row, options, machine, results)
    progress("")
    scheduling = "SCHED_FIFO" if machine.fifo else "ordinary scheduling"
    took = time.monotonic() - started
    print(f"medians of {options.rounds} rounds, CPU {machine.cpu}, {scheduling}, {took:.0f} s\n")
    print_table(in_process_lines(results), PEERS)
    print_table(server_lines(results), SERVER_PEERS + list(PYTHON_SERVERS))
    if table := compile_row.table(options, results, number):
        print_columns(table, range(2, len(table[0])))
    if options.json:
        write_json(options.json, options, machine, results)


if __name__ == "__main__":
    main()
