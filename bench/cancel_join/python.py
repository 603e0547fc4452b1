import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

BATCH = 100
BATCHES = 500


async def sleeper():
    await asyncio.sleep(100)


async def measure():
    start = now_ns()
    for _ in range(BATCHES):
        tasks = [asyncio.create_task(sleeper()) for _ in range(BATCH)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    report("cancel_join", "task", (now_ns() - start) / (BATCH * BATCHES))


run(measure)
