import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 100_000


async def produce(queue):
    for i in range(COUNT):
        await queue.put(i)


async def consume(queue):
    total = 0
    for _ in range(COUNT):
        total += await queue.get()


async def measure():
    queue = asyncio.Queue(1)
    start = now_ns()
    await asyncio.gather(produce(queue), consume(queue))
    report("queue_handover", "item", (now_ns() - start) / COUNT)


run(measure)
