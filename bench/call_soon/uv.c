/* libuv has no call_soon: the nearest is an idle handle that stops itself, so runs once, in the next turn. */
#include <uv.h>

#include "../common/bench.h"

enum { BATCH = 1000, ROUNDS = 3000, LENGTH = 3000000 };

static long left;

static void run_once(uv_idle_t* idle) { uv_idle_stop(idle); }

static void run_next(uv_idle_t* idle) {
    uv_idle_stop(idle);
    if (--left > 0) uv_idle_start(idle, run_next);
}

int main(void) {
    static uv_idle_t idles[BATCH];
    uv_loop_t* loop = uv_default_loop();
    for (int i = 0; i < BATCH; i++) uv_idle_init(loop, &idles[i]);

    double start = now_ns();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++) uv_idle_start(&idles[i], run_once);
        uv_run(loop, UV_RUN_NOWAIT);
    }
    report("call_soon", "batch_1000", (now_ns() - start) / ((double)BATCH * ROUNDS));

    left = LENGTH;
    uv_idle_start(&idles[0], run_next);
    start = now_ns();
    uv_run(loop, UV_RUN_DEFAULT);
    report("call_soon", "chain", (now_ns() - start) / LENGTH);
    return 0;
}
