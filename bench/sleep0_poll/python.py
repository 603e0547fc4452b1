import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

TURNS = 300_000


async def take_turns(turns):
    for _ in range(turns):
        await asyncio.sleep(0)


async def measure():
    loop = asyncio.get_running_loop()
    fd, other_end = os.pipe()
    loop.add_reader(fd, lambda: None)
    start = now_ns()
    await take_turns(TURNS)
    report("sleep0_poll", "1", (now_ns() - start) / TURNS)
    loop.remove_reader(fd)
    os.close(fd)
    os.close(other_end)


run(measure)
