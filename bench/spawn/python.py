import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 150


async def spawn(count):
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        assert await process.wait() == 0


async def measure():
    await spawn(10)
    start = now_ns()
    await spawn(COUNT)
    report("spawn", "small", (now_ns() - start) / COUNT)
    memory = bytearray(b"x") * (1 << 30)
    await spawn(5)
    start = now_ns()
    await spawn(COUNT)
    report("spawn", "1_gib", (now_ns() - start) / COUNT)
    assert len(memory) == 1 << 30


run(measure)
