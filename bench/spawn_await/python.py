import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 150_000


async def leaf(i):
    return i


async def measure():
    total = 0
    start = now_ns()
    for i in range(COUNT):
        total += await asyncio.create_task(leaf(i))
    report("spawn_await", "task", (now_ns() - start) / COUNT)


run(measure)
