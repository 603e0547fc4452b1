/* uv_async_send only wakes the loop, so a program that posts work keeps a list of its own behind a mutex. */
#include <stdlib.h>
#include <uv.h>

#include "../common/bench.h"

typedef struct Post Post;
struct Post {
    Post* next;
    void (*callback)(void);
};

static uv_mutex_t mutex;
static Post* first;
static Post** end = &first;
static uv_async_t async;
static long left;

static void on_post(void) { left--; }

static void post(void (*callback)(void)) {
    Post* item = malloc(sizeof *item);
    item->next = NULL;
    item->callback = callback;
    uv_mutex_lock(&mutex);
    *end = item;
    end = &item->next;
    uv_mutex_unlock(&mutex);
    uv_async_send(&async);
}

static void on_wakeup(uv_async_t* handle) {
    uv_mutex_lock(&mutex);
    Post* item = first;
    first = NULL;
    end = &first;
    uv_mutex_unlock(&mutex);
    while (item) {
        Post* next = item->next;
        item->callback();
        free(item);
        item = next;
    }
    if (left == 0) uv_stop(handle->loop);
}

static void produce(void* count) {
    for (long i = 0; i < *(long*)count; i++) post(on_post);
}

static void post_from_thread(uv_loop_t* loop, long count) {
    uv_thread_t producer;
    left = count;
    uv_thread_create(&producer, produce, &count);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_thread_join(&producer);
}

int main(void) {
    const long COUNT = 2000000;
    uv_loop_t* loop = uv_default_loop();
    uv_mutex_init(&mutex);
    uv_async_init(loop, &async, on_wakeup);
    post_from_thread(loop, 10000);
    double start = now_ns();
    post_from_thread(loop, COUNT);
    report("cross_thread", "throughput", (now_ns() - start) / (double)COUNT);
    return 0;
}
