#!/usr/bin/env python3
"""Checks that a file includes its own layer and lower ones only (the table of ARCHITECTURE.md)."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A folder of src/ is a layer: what it may include besides itself.
MAY_INCLUDE = {
    "base": set(),
    "platform": {"base"},
    "loop": {"base"},
    "core": {"base", "loop"},
    "sync": {"base", "loop", "core"},
    "io": {"base", "loop", "core", "sync"},
    "http": set(),  # and every public header
    "testing": {"base", "platform", "loop", "core", "sync"},
}

POLLER_INTERFACE = "platform/poller.hpp"
MAY_INCLUDE_POLLER = {"loop", "io"}

# Layers that reach the kernel only through a lower one.
KERNEL_FREE = {"base", "loop", "core", "sync", "http"}
KERNEL_HEADER = re.compile(r"(sys|linux|asm|net|netinet|arpa)/|(unistd|fcntl|poll|liburing)\.h$")

BACKEND_CHOOSER = "src/platform/backend.cpp"
BACKEND_HEADER = re.compile(r"platform/(uring|epoll)")

# A chapter of include/coil belongs to the layer that implements it.
CHAPTERS = {
    "base": "exceptions format fwd log contextvars",  # a callback of the loop carries its context
    "loop": "events",
    "core": "coroutines contextlib async_generators futures tasks runners stacks graph traceback",
    "sync": "combinators taskgroups timeouts locks queues concurrent executors threads",
    "io": "streams transports protocols sockets dns ssl subprocess process_pool signals files server",
}
LAYER_OF_CHAPTER = {chapter: layer for layer, chapters in CHAPTERS.items() for chapter in chapters.split()}
# include/coil/detail: a header named after a chapter belongs to its layer; the others are listed here, or not checked.
DETAILS = {
    "base": "bytes list pool ref runnable thread_state timer_heap",
    "loop": "callback creation_place loop_core",
    "core": "box future_base task_base operation",
    "sync": "wait_queue future_chain",
    "io": "stream_waits",
}
LAYER_OF_DETAIL = {detail: layer for layer, details in DETAILS.items() for detail in details.split()}
UMBRELLA = "coil/coil.hpp"

# (file, included): exceptions to the rules, each with its reason in a comment.
ALLOWED: set[tuple[str, str]] = set()

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


@dataclass
class Header:
    layer: str | None  # None: not checked
    public: bool


def public_layer(path: str) -> str | None:
    """The layer of include/<path>, where path starts with coil/."""
    parts = Path(path).with_suffix("").parts[1:]
    if len(parts) > 1 and parts[0] == "detail":
        if len(parts) > 2 and parts[1] in MAY_INCLUDE:
            return parts[1]
        return LAYER_OF_DETAIL.get(parts[-1], LAYER_OF_CHAPTER.get(parts[-1]))
    if len(parts) > 1:
        return parts[0] if parts[0] in MAY_INCLUDE else None
    return LAYER_OF_CHAPTER.get(parts[0])


def resolve(file: Path, quoted: bool, included: str) -> tuple[str, Header] | None:
    """Which of coil's own headers is meant, by its path under src/ or include/; None for a foreign one."""
    if included.startswith("coil/"):
        return included, Header(public_layer(included), public=True)
    if not quoted:
        return None
    folder = included.split("/")[0]
    if folder in MAY_INCLUDE and "/" in included:
        return included, Header(folder, public=False)
    sibling = (file.parent / included).resolve()
    for base, public in ((ROOT / "src", False), (ROOT / "include", True)):
        if sibling.is_relative_to(base):
            path = sibling.relative_to(base).as_posix()
            return path, Header(public_layer(path) if public else path.split("/")[0], public)
    return None


def complaint(file: Path, name: str, layer: str | None, is_public: bool, quoted: bool, included: str) -> str | None:
    if resolved := resolve(file, quoted, included):
        path, header = resolved
    else:
        if layer in KERNEL_FREE and not is_public and KERNEL_HEADER.match(included):
            return f"{layer} does not talk to the kernel: add what you need to a layer that does, or to the poller"
        return None

    if is_public and not header.public:
        return "a public header includes public headers only: move the declaration to include/coil/detail"
    if BACKEND_HEADER.match(path) and name != BACKEND_CHOOSER:
        kind = BACKEND_HEADER.match(path)[1]
        if not re.match(rf"src/platform/{kind}", name):
            return f"only {BACKEND_CHOOSER} knows the backends: use {POLLER_INTERFACE}"
    if path == UMBRELLA:
        return None if layer == "http" else "include the headers of the chapters that you use, not all of coil"
    if layer is None or header.layer is None or header.layer == layer or header.layer in MAY_INCLUDE[layer]:
        return None
    if layer == "http":
        return None if header.public else "http uses coil as everybody does: include a public header instead"
    if header.layer == "platform":
        if path == POLLER_INTERFACE and layer in MAY_INCLUDE_POLLER:
            return None
        if layer in MAY_INCLUDE_POLLER:
            return f"{layer} knows the kernel only through {POLLER_INTERFACE}: include that, or extend it"
        return f"{layer} does not know the platform: ask the loop for it"
    return (
        f"{layer} is below {header.layer}: declare an interface here that {header.layer} implements, "
        f"or move this code to src/{header.layer}"
    )


def check_file(file: Path, layer: str | None, is_public: bool) -> list[str]:
    name = file.relative_to(ROOT).as_posix()
    problems = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match or (name, match[2]) in ALLOWED:
            continue
        if reason := complaint(file, name, layer, is_public, match[1] == '"', match[2]):
            problems.append(f"{name}:{number}: includes {match[2]}, but {reason}.")
    return problems


def main() -> int:
    problems = []
    count = 0
    for file in sorted([*ROOT.glob("src/**/*.[ch]pp"), *ROOT.glob("include/coil/**/*.hpp")]):
        count += 1
        parts = file.relative_to(ROOT).parts
        if parts[0] == "src" and parts[1] not in MAY_INCLUDE:
            problems.append(f"{'/'.join(parts)}:1: is in no layer: move it to one of src/{{{','.join(MAY_INCLUDE)}}}.")
        elif parts[0] == "src":
            problems += check_file(file, parts[1], is_public=False)
        elif parts[1:] != ("coil", "coil.hpp"):
            problems += check_file(file, public_layer("/".join(parts[1:])), is_public=True)
    print("\n".join(problems) if problems else f"{count} files keep to their layers")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
