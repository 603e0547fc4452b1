import asyncio
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 300_000  # a million takes python seconds and changes little
OUTSTANDING = 10_000


def ignore():
    pass


async def schedule_cancel(loop, offsets):
    base = loop.time() + 100
    outstanding = [loop.call_at(base + offset, ignore) for offset in offsets[:OUTSTANDING]]
    count = COUNT // 2
    start = now_ns()
    for i in range(count):
        loop.call_at(base + offsets[i], ignore).cancel()
        if i % 1000 == 0:
            await asyncio.sleep(0)
    report("timer_schedule_cancel", "10000_outstanding", (now_ns() - start) / count)
    for timer in outstanding:
        timer.cancel()


async def schedule_then_cancel(loop, offsets):
    base = loop.time() + 100
    start = now_ns()
    timers = [loop.call_at(base + offset, ignore) for offset in offsets]
    report("timer_schedule", "1M", (now_ns() - start) / COUNT)
    random.shuffle(timers)
    start = now_ns()
    for timer in timers:
        timer.cancel()
    await asyncio.sleep(0)
    report("timer_cancel", "1M_random", (now_ns() - start) / COUNT)


async def schedule_fire(loop, offsets):
    base = loop.time() - 100
    done = loop.create_future()
    left = COUNT

    def fire():
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    start = now_ns()
    for offset in offsets:
        loop.call_at(base + offset, fire)
    await done
    report("timer_schedule_fire", "1M", (now_ns() - start) / COUNT)


async def measure():
    loop = asyncio.get_running_loop()
    random.seed(42)
    offsets = [random.random() * 60 for _ in range(COUNT)]
    await schedule_cancel(loop, offsets)
    await schedule_then_cancel(loop, offsets)
    await schedule_fire(loop, offsets)


run(measure)
