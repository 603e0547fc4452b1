import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

WAKES = 200_000


async def answer(mine, other):
    for _ in range(WAKES // 2):
        await mine.wait()
        mine.clear()
        other.set()


async def measure():
    ping = asyncio.Event()
    pong = asyncio.Event()
    ping.set()
    start = now_ns()
    await asyncio.gather(answer(ping, pong), answer(pong, ping))
    report("event", "wake", (now_ns() - start) / WAKES)


run(measure)
