// HTTP by hand: curl as the client, nginx as the server.

#include <unistd.h>

#include "peers/fixture.hpp"

using namespace coil;
using namespace peers;
using support::certificates;
using support::client_context;
using support::server_context;
using support::thrown_by_await;

namespace {

using peers::Process;  // not coil's

class HttpPeers : public Peers {};
ON_EVERY_BACKEND(HttpPeers);

const std::string& page() {
    static const std::string made(1 << 20, '.');
    return made;
}

/// Answers one request: GET with the page, POST with the size of what came.
Coro<> serve_http(StreamReader reader, StreamWriter writer) {
    std::string head = co_await reader.readuntil("\r\n\r\n");
    std::string body = page();
    if (head.starts_with("POST")) {
        std::size_t at = head.find("Content-Length: ");
        std::string sent = co_await reader.readexactly(std::stoul(head.substr(at + 16)));
        body = std::to_string(sent.size());
    }
    writer.write(
        fmt::format("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.size()));
    writer.write(body);
    co_await writer.drain();
    co_await hang_up(writer);
}

Coro<Process::Result> curl(std::vector<std::string> more) {
    std::vector<std::string> command{"curl",       "-q", "-sS", "--noproxy", "*",
                                     "--max-time", "50", "-H",  "Expect:"};
    command.insert(command.end(), more.begin(), more.end());
    auto process = co_await Process::start(std::move(command));
    auto ended = co_await process.finish();
    co_return ended;
}

TEST_P(HttpPeers, curl_gets_and_posts_by_https) {
    run([]() -> Coro<> {
        SslContext context = server_context();
        Server server = co_await start_server(serve_http, "127.0.0.1", 0, {.ssl = &context});
        int port = port_of(server);
        std::string url = fmt::format("https://localhost:{}/", port);
        std::string resolve = fmt::format("localhost:{}:127.0.0.1", port);
        for (const char* version : {"1.2", "1.3"}) {
            std::vector<std::string> get{
                "--cacert", certificates().ca_file, "--resolve", resolve, "--tls-max", version, url};
            auto got = co_await curl(get);
            EXPECT_EQ(got.exit_code, 0) << got.output.substr(0, 1000);
            EXPECT_TRUE(got.output == page());
            support::TemporaryDirectory directory;
            std::string file = directory.write("upload", std::string(3'000'000, 'u'));
            get.insert(get.end(), {"--data-binary", "@" + file});
            auto posted = co_await curl(get);
            EXPECT_EQ(posted.exit_code, 0);
            EXPECT_EQ(posted.output, "3000000");
        }
        std::vector<std::string> distrustful{url, "--resolve", resolve};
        auto refused = co_await curl(distrustful);
        EXPECT_EQ(refused.exit_code, 60) << refused.output.substr(0, 1000);  // certificate not trusted
        server.close();
        co_await server.wait_closed();
    }());
}

TEST_P(HttpPeers, curl_gets_over_a_unix_socket) {
    run([]() -> Coro<> {
        support::TemporaryDirectory directory;
        std::string path = directory.path("http.sock");
        Server server = co_await start_unix_server(serve_http, path);
        std::vector<std::string> arguments{"--unix-socket", path, "http://localhost/"};
        auto got = co_await curl(arguments);
        EXPECT_EQ(got.exit_code, 0) << got.output.substr(0, 1000);
        EXPECT_TRUE(got.output == page());
        server.close();
        co_await server.wait_closed();
    }());
}

/// Serves a page by TLS on a Unix socket: it cannot choose a free port by itself.
struct Nginx {
    Coro<> start() {
        directory.write("page", page());
        std::string root = directory.path("");
        // Also when started by root, whose directory another user could not read.
        std::string user = ::getuid() == 0 ? "user root;\n" : "";
        std::string configuration = directory.write(
            "nginx.conf",
            fmt::format("{0}daemon off;\nmaster_process off;\npid {1}/pid;\nerror_log stderr notice;\n"
                        "events {{}}\n"
                        "http {{\n access_log off;\n client_body_temp_path {1}/b;\n proxy_temp_path {1}/p;\n"
                        " fastcgi_temp_path {1}/f;\n uwsgi_temp_path {1}/u;\n scgi_temp_path {1}/s;\n"
                        " server {{\n  listen unix:{1}/tls.sock ssl;\n"
                        "  ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_certificate {2};\n  ssl_certificate_key "
                        "{2};\n  root {1};\n }}\n}}\n",
                        user, root, certificates().server_file));
        std::vector<std::string> command{"nginx", "-c", configuration, "-p", root, "-e", "stderr"};
        process.emplace(co_await Process::start(command));
        co_await process->line_with("getrlimit");  // the last it says, when it listens
        path = directory.path("tls.sock");
    }
    support::TemporaryDirectory directory;
    std::optional<Process> process;
    std::string path;
};

Coro<std::string> get(StreamReader reader, StreamWriter writer) {
    writer.write("GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n");
    std::string all = co_await reader.read();
    co_await hang_up(writer);
    co_return all.substr(all.find("\r\n\r\n") + 4);
}

TEST_P(HttpPeers, nginx_is_fetched_by_https) {
    run([]() -> Coro<> {
        Nginx nginx;
        co_await nginx.start();
        SslContext context = client_context();
        context.set_alpn_protocols({"http/1.1"});
        for (TlsVersion version : {TlsVersion::TLSv1_2, TlsVersion::TLSv1_3}) {
            context.set_maximum_version(version);
            auto [reader, writer] =
                co_await open_unix_connection(nginx.path, {.ssl = &context, .server_hostname = "localhost"});
            EXPECT_EQ(tls_of(writer).version(), version == TlsVersion::TLSv1_3 ? "TLSv1.3" : "TLSv1.2");
            EXPECT_EQ(tls_of(writer).selected_alpn_protocol(), "http/1.1");
            EXPECT_TRUE(co_await get(reader, writer) == page());
        }
        EXPECT_EQ((co_await thrown_by_await(
                       open_unix_connection(nginx.path, {.ssl = &context, .server_hostname = "wrong.test"})))
                      .substr(0, 24),
                  "SslCertVerificationError");
        // Many at once.
        auto one = [](const SslContext& with, const std::string& path) -> Coro<bool> {
            auto [reader, writer] =
                co_await open_unix_connection(path, {.ssl = &with, .server_hostname = "localhost"});
            co_return co_await get(reader, writer) == page();
        };
        std::vector<Coro<bool>> visits;
        for (int i = 0; i < 20; ++i) visits.push_back(one(context, nginx.path));
        for (bool good : co_await gather(std::move(visits))) EXPECT_TRUE(good);
    }());
}

}  // namespace
