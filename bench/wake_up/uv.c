#include <stdlib.h>
#include <uv.h>

#include "../common/bench.h"

enum { COUNT = 5000 };

static uv_async_t async;
static uv_sem_t arrived;
static double posted;
static double latencies[COUNT];
static long count;

static void on_wakeup(uv_async_t* handle) {
    latencies[count++] = now_ns() - posted;
    if (count == COUNT) uv_stop(handle->loop);
    uv_sem_post(&arrived);
}

static void post(void* nothing) {
    (void)nothing;
    struct timespec pause = {0, 100 * 1000};
    for (long i = 0; i < COUNT; i++) {
        nanosleep(&pause, NULL);
        posted = now_ns();
        uv_async_send(&async);
        uv_sem_wait(&arrived);
    }
}

static int compare(const void* a, const void* b) {
    return (*(const double*)a > *(const double*)b) - (*(const double*)a < *(const double*)b);
}

int main(void) {
    uv_loop_t* loop = uv_default_loop();
    uv_thread_t poster;
    uv_sem_init(&arrived, 0);
    uv_async_init(loop, &async, on_wakeup);
    uv_thread_create(&poster, post, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_thread_join(&poster);
    if (count != COUNT) abort();
    qsort(latencies, COUNT, sizeof latencies[0], compare);
    report("wake_up", "latency", latencies[COUNT / 2]);
    return 0;
}
