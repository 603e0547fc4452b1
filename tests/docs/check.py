#!/usr/bin/env python3
"""Keeps the programs in Markdown pages true.

    check.py extract PAGE --program FILE --expected FILE     writes the page's program and its output to files
    check.py same PAGE --program FILE --expected FILE        compares them with files; leading comment lines do not count

A page has one program: the block that begins with ```cpp program. The next block, ```text, is what it prints. A chapter of the
tutorial has several, ```cpp program NAME: `--name NAME` is one of them.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import NamedTuple


class PageError(Exception):
    pass


class Block(NamedTuple):
    info: str
    line: int  # number of its first line
    text: str


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks, in order."""
    blocks: list[Block] = []
    lines = page.read_text("utf-8").splitlines(keepends=True)
    number = 0
    while number < len(lines):
        opening = re.fullmatch(r"```(.*?)\s*", lines[number])
        number += 1
        if not opening:
            continue
        first = number
        while number < len(lines) and lines[number].rstrip() != "```":
            number += 1
        if number == len(lines):
            raise PageError(f"{page}:{first}: this block has no end")
        blocks.append(Block(opening[1], first + 1, "".join(lines[first:number])))
        number += 1
    return blocks


def program_of(page: Path, name: str) -> tuple[Block, Block]:
    """The program and its output."""
    blocks = blocks_of(page)
    info = f"cpp program {name}".rstrip()
    found = [i for i, block in enumerate(blocks) if block.info == info]
    if len(found) != 1:
        raise PageError(f"{page}: needs one block ```{info}, has {len(found)}")
    program, following = blocks[found[0]], blocks[found[0] + 1 : found[0] + 2]
    if not following or following[0].info != "text":
        raise PageError(f"{page}:{program.line}: the next block after the program must be its output, ```text")
    return program, following[0]


def extract(page: Path, name: str, program_file: Path, expected_file: Path) -> bool:
    program, output = program_of(page, name)
    for file in (program_file, expected_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    # On the same lines as in the page, so that the compiler's messages name them.
    above = f"// A program of {page.name}, on its lines there." + "\n" * (program.line - 1)
    program_file.write_text(above + program.text, "utf-8")
    expected_file.write_text(output.text, "utf-8")
    return True


def equal(page: Path, block: Block, file: Path, text: str) -> bool:
    if block.text == text:
        return True
    sys.stdout.writelines(
        difflib.unified_diff(
            text.splitlines(keepends=True),
            block.text.splitlines(keepends=True),
            str(file),
            f"{page}:{block.line}",
        )
    )
    return False


def same(page: Path, name: str, program_file: Path, expected_file: Path) -> bool:
    program, output = program_of(page, name)
    source = re.sub(r"\A(//[^\n]*\n)+\n*", "", program_file.read_text("utf-8"))
    results = [
        equal(page, program, program_file, source),
        equal(page, output, expected_file, expected_file.read_text("utf-8")),
    ]
    return all(results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("extract", "same"))
    parser.add_argument("page", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--expected", type=Path, required=True)
    args = parser.parse_args()
    try:
        command = extract if args.command == "extract" else same
        return 0 if command(args.page, args.name, args.program, args.expected) else 1
    except PageError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
