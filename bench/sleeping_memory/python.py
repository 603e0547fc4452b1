import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

TASKS = 200_000


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def sleeper():
    await asyncio.sleep(3600)


async def measure():
    before = resident_bytes()
    tasks = [asyncio.create_task(sleeper()) for _ in range(TASKS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    report("sleeping_task_bytes", "1M", (resident_bytes() - before) / len(tasks))
    os._exit(0)


run(measure)
