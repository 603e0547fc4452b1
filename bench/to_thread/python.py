import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 4_000
WIDTH = 64
ROUNDS = 60


def call(value):
    return value + 1


async def one_after_another(count):
    for i in range(count):
        assert await asyncio.to_thread(call, i) == i + 1


async def at_once(rounds):
    for _ in range(rounds):
        results = await asyncio.gather(*(asyncio.to_thread(call, i) for i in range(WIDTH)))
        assert results == list(range(1, WIDTH + 1))


async def measure():
    await one_after_another(100)
    start = now_ns()
    await one_after_another(COUNT)
    report("to_thread", "one", (now_ns() - start) / COUNT)
    await at_once(2)
    start = now_ns()
    await at_once(ROUNDS)
    report("to_thread", "64_at_once", (now_ns() - start) / (ROUNDS * WIDTH))


run(measure)
