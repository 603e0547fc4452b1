import asyncio
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 2_000


async def measure():
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    arrived = threading.Semaphore(0)
    latencies = []

    def on_post(posted):
        latencies.append(now_ns() - posted)
        arrived.release()

    def post():
        for _ in range(COUNT):
            time.sleep(100e-6)
            loop.call_soon_threadsafe(on_post, now_ns())
            arrived.acquire()
        loop.call_soon_threadsafe(done.set)

    poster = threading.Thread(target=post)
    poster.start()
    await done.wait()
    poster.join()
    assert len(latencies) == COUNT
    report("wake_up", "latency", statistics.median(latencies))


run(measure)
