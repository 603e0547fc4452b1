/* libuv counts in milliseconds and has no deadlines in the past: what is to fire is scheduled within 100 ms,
 * and the loop runs when all of it is due. The wait is not counted. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "../common/bench.h"

enum { MILLION = 1000000, OUTSTANDING = 10000 };

static uint64_t state = 42;

static uint64_t next_random(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static void on_timer(uv_timer_t* timer) { (void)timer; }

int main(void) {
    uv_loop_t* loop = uv_default_loop();
    uv_timer_t* timers = malloc(MILLION * sizeof *timers);
    uint32_t* order = malloc(MILLION * sizeof *order);
    uint64_t* offsets = malloc(MILLION * sizeof *offsets);
    for (int i = 0; i < MILLION; i++) {
        uv_timer_init(loop, &timers[i]);
        offsets[i] = next_random() % 60000;
        order[i] = (uint32_t)i;
    }
    for (int i = MILLION - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(next_random() % (uint64_t)(i + 1));
        uint32_t index = order[i];
        order[i] = order[other];
        order[other] = index;
    }

    for (int i = 0; i < OUTSTANDING; i++) uv_timer_start(&timers[i], on_timer, 100000 + offsets[i], 0);
    double start = now_ns();
    for (int i = OUTSTANDING; i < MILLION; i++) {
        uv_timer_start(&timers[i], on_timer, 100000 + offsets[i], 0);
        uv_timer_stop(&timers[i]);
    }
    report("timer_schedule_cancel", "10000_outstanding", (now_ns() - start) / (MILLION - OUTSTANDING));
    for (int i = 0; i < OUTSTANDING; i++) uv_timer_stop(&timers[i]);

    start = now_ns();
    for (int i = 0; i < MILLION; i++) uv_timer_start(&timers[i], on_timer, 100000 + offsets[i], 0);
    double scheduled = now_ns();
    for (int i = 0; i < MILLION; i++) uv_timer_stop(&timers[order[i]]);
    double cancelled = now_ns();
    report("timer_schedule", "1M", (scheduled - start) / MILLION);
    report("timer_cancel", "1M_random", (cancelled - scheduled) / MILLION);

    uv_update_time(loop);
    start = now_ns();
    for (int i = 0; i < MILLION; i++) uv_timer_start(&timers[i], on_timer, 1 + offsets[i] % 100, 0);
    double took = now_ns() - start;
    usleep(120000);
    start = now_ns();
    uv_run(loop, UV_RUN_DEFAULT);
    report("timer_schedule_fire", "1M", (took + now_ns() - start) / MILLION);
    return 0;
}
