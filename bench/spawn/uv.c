#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../common/bench.h"

enum { COUNT = 300 };

static uv_process_t process;
static long left;

static void start_next(uv_handle_t* ended);

static void on_exit_of(uv_process_t* ended, int64_t status, int signal_number) {
    if (status != 0 || signal_number != 0) abort();
    uv_close((uv_handle_t*)ended, start_next);
}

static void start_next(uv_handle_t* ended) {
    (void)ended;
    if (left-- == 0) return;
    char* args[] = {"/bin/true", NULL};
    uv_stdio_container_t inherited[3];
    for (int fd = 0; fd < 3; fd++) {
        inherited[fd].flags = UV_INHERIT_FD;
        inherited[fd].data.fd = fd;
    }
    uv_process_options_t options = {0};
    options.file = args[0];
    options.args = args;
    options.exit_cb = on_exit_of;
    options.stdio_count = 3;
    options.stdio = inherited;
    if (uv_spawn(uv_default_loop(), &process, &options) != 0) abort();
}

static double spawn(long count) {
    left = count;
    double start = now_ns();
    start_next(NULL);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return now_ns() - start;
}

int main(void) {
    spawn(20);
    report("spawn", "small", spawn(COUNT) / COUNT);
    size_t size = (size_t)1 << 30;
    char* memory = malloc(size);
    if (!memory) abort();
    memset(memory, 'x', size);
    __asm__ volatile("" : : "g"(memory) : "memory");
    spawn(5);
    report("spawn", "1_gib", spawn(COUNT) / COUNT);
    free(memory);
    return 0;
}
