import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 200_000


async def take_free_lock(lock):
    for _ in range(COUNT):
        await lock.acquire()
        lock.release()


async def hold_across_turns(lock):
    for _ in range(COUNT // 2):
        await lock.acquire()
        await asyncio.sleep(0)
        lock.release()


async def measure():
    lock = asyncio.Lock()
    start = now_ns()
    await take_free_lock(lock)
    report("lock", "uncontended", (now_ns() - start) / COUNT)

    start = now_ns()
    await asyncio.gather(hold_across_turns(lock), hold_across_turns(lock))
    report("lock", "handed_over", (now_ns() - start) / COUNT)


run(measure)
