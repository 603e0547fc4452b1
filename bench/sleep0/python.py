import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

TOTAL = 500_000


async def take_turns(turns):
    for _ in range(turns):
        await asyncio.sleep(0)


async def measure():
    for tasks in (1, 100, 10_000):
        turns = TOTAL // tasks
        running = [asyncio.create_task(take_turns(turns)) for _ in range(tasks)]
        start = now_ns()
        for task in running:
            await task
        report("sleep0", tasks, (now_ns() - start) / (tasks * turns))


run(measure)
