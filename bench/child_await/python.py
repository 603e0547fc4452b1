import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 3_000_000


async def leaf(i):
    return i


async def measure():
    total = 0
    start = now_ns()
    for i in range(COUNT):
        total += await leaf(i)
    report("child_await", "call", (now_ns() - start) / COUNT)


run(measure)
