import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

BATCH = 1000
ROUNDS = 500
LENGTH = 200_000


async def measure():
    loop = asyncio.get_running_loop()
    total = 0

    def add(i):
        nonlocal total
        total += i

    start = now_ns()
    for _ in range(ROUNDS):
        for i in range(BATCH):
            loop.call_soon(add, i)
        await asyncio.sleep(0)
    report("call_soon", "batch_1000", (now_ns() - start) / (BATCH * ROUNDS))

    left = LENGTH
    done = loop.create_future()

    def link():
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(link)
        else:
            done.set_result(None)

    start = now_ns()
    loop.call_soon(link)
    await done
    report("call_soon", "chain", (now_ns() - start) / LENGTH)


run(measure)
