/* bench_echo_uv PORT: one read buffer for all connections, uv_try_write first. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

typedef struct {
    uv_write_t request;
    char data[];
} Unsent;

static char buffer[256 * 1024];

static void on_close(uv_handle_t* handle) { free(handle); }

static void drop(uv_stream_t* stream) {
    if (!uv_is_closing((uv_handle_t*)stream)) uv_close((uv_handle_t*)stream, on_close);
}

static void on_written(uv_write_t* request, int status) {
    if (status < 0) drop(request->handle);
    free(request);
}

static void on_alloc(uv_handle_t* handle, size_t suggested, uv_buf_t* into) {
    (void)handle;
    (void)suggested;
    *into = uv_buf_init(buffer, sizeof buffer);
}

static void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* from) {
    if (size < 0) drop(stream);
    if (size <= 0) return;
    uv_buf_t data = uv_buf_init(from->base, (unsigned)size);
    int sent = uv_try_write(stream, &data, 1);
    if (sent == size) return;
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) {
        drop(stream);
        return;
    }
    size_t left = (size_t)(size - sent);
    Unsent* unsent = malloc(sizeof *unsent + left);
    memcpy(unsent->data, from->base + sent, left);
    data = uv_buf_init(unsent->data, (unsigned)left);
    if (uv_write(&unsent->request, stream, &data, 1, on_written) < 0) free(unsent);
}

static void on_connection(uv_stream_t* listener, int status) {
    if (status < 0) return;
    uv_tcp_t* client = malloc(sizeof *client);
    uv_tcp_init(listener->loop, client);
    if (uv_accept(listener, (uv_stream_t*)client) < 0) {
        drop((uv_stream_t*)client);
        return;
    }
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t*)client, on_alloc, on_read);
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    uv_loop_t* loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    uv_tcp_init(loop, &listener);
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address);
    int error = uv_tcp_bind(&listener, (const struct sockaddr*)&address, 0);
    if (!error) error = uv_listen((uv_stream_t*)&listener, 4096, on_connection);
    if (error) {
        fprintf(stderr, "listen: %s\n", uv_strerror(error));
        return 1;
    }
    return uv_run(loop, UV_RUN_DEFAULT);
}
