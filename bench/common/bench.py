"""What the python programs share: a clock, one line of output per measurement, the choice of the loop."""

import asyncio
import sys
import time

now_ns = time.perf_counter_ns


def report(metric, parameter, value):
    print(f"{metric}\t{parameter}\t{value:.3f}", flush=True)


def run(main):
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.install()
    asyncio.run(main())
