import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

CHILDREN = 100
GROUPS = 1000


async def child():
    await asyncio.sleep(0)


async def measure():
    start = now_ns()
    for _ in range(GROUPS):
        async with asyncio.TaskGroup() as group:
            for _ in range(CHILDREN):
                group.create_task(child())
    report("taskgroup100", "child", (now_ns() - start) / (CHILDREN * GROUPS))


run(measure)
