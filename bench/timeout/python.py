import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 100_000


async def ready():
    pass


async def take_turn():
    await asyncio.sleep(0)


async def measure():
    for name, body in (("ready", ready), ("sleep0", take_turn)):
        start = now_ns()
        for _ in range(COUNT):
            async with asyncio.timeout(1):
                await body()
        report("timeout", name, (now_ns() - start) / COUNT)


run(measure)
