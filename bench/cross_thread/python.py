import asyncio
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 150_000


async def measure():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = COUNT

    def on_post():
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    def produce():
        for _ in range(COUNT):
            loop.call_soon_threadsafe(on_post)

    producer = threading.Thread(target=produce)
    start = now_ns()
    producer.start()
    await done
    report("cross_thread", "throughput", (now_ns() - start) / COUNT)
    producer.join()


run(measure)
