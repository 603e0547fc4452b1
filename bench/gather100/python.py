import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

CHILDREN = 100
BATCHES = 1000


async def child():
    await asyncio.sleep(0)


async def measure():
    start = now_ns()
    for _ in range(BATCHES):
        await asyncio.gather(*[child() for _ in range(CHILDREN)])
    report("gather100", "child", (now_ns() - start) / (CHILDREN * BATCHES))


run(measure)
