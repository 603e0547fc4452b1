import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import now_ns, report, run

COUNT = 50_000


class Failure(Exception):
    pass


async def fail(depth):
    if depth == 0:
        raise Failure
    return await fail(depth - 1)


async def measure():
    for depth in (0, 1, 4, 16):
        start = now_ns()
        for _ in range(COUNT):
            try:
                await fail(depth)
            except Failure:
                pass
        report("exception", depth, (now_ns() - start) / COUNT)


run(measure)
