/* What every program here shares: a clock and one line of output per measurement.
 *
 *     metric <TAB> parameter <TAB> value
 *
 * The value is nanoseconds per operation unless the metric says bytes or mallocs. */
#ifndef COIL_BENCH_H
#define COIL_BENCH_H

#include <stdio.h>
#include <time.h>

static inline double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void report(const char* metric, const char* parameter, double value) {
    printf("%s\t%s\t%.3f\n", metric, parameter, value);
    fflush(stdout);
}

#endif
