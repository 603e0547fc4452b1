#include <stdlib.h>
#include <uv.h>

#include "../common/bench.h"

enum { COUNT = 20000, WIDTH = 64, ROUNDS = 1500 };

typedef struct {
    uv_work_t request;
    long value;
} Call;

static Call calls[WIDTH];
static long width;
static long rounds;
static long arrived;

static void work(uv_work_t* request) { ((Call*)request->data)->value++; }

static void start_round(uv_loop_t* loop);

static void after(uv_work_t* request, int status) {
    if (status != 0 || ((Call*)request->data)->value != 1) abort();
    if (++arrived == width && --rounds > 0) start_round(request->loop);
}

static void start_round(uv_loop_t* loop) {
    arrived = 0;
    for (long i = 0; i < width; i++) {
        calls[i].value = 0;
        calls[i].request.data = &calls[i];
        uv_queue_work(loop, &calls[i].request, work, after);
    }
}

static double run(long its_width, long its_rounds) {
    uv_loop_t* loop = uv_default_loop();
    width = its_width;
    rounds = its_rounds;
    double start = now_ns();
    start_round(loop);
    uv_run(loop, UV_RUN_DEFAULT);
    if (rounds != 0) abort();
    return now_ns() - start;
}

int main(void) {
    long cpus = (long)uv_available_parallelism();
    char threads[16];
    snprintf(threads, sizeof threads, "%ld", cpus + 4 < 32 ? cpus + 4 : 32); /* as coil's default executor has */
    setenv("UV_THREADPOOL_SIZE", threads, 1);
    run(1, 200);
    report("to_thread", "one", run(1, COUNT) / COUNT);
    run(WIDTH, 20);
    report("to_thread", "64_at_once", run(WIDTH, ROUNDS) / ((double)WIDTH * ROUNDS));
    return 0;
}
