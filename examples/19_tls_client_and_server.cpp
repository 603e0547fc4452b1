// TLS: a server that proves who it is, a client that believes it, and one that does not. The certificate is made by the
// command line of OpenSSL, in a temporary directory; without it the program says so and returns 77.

#include <any>
#include <coil/coil.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>
#include <string>

/// A directory that is gone at the end of the scope.
struct TemporaryDirectory {
    TemporaryDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "coil_tls_XXXXXX").string();
        if (!::mkdtemp(name.data())) throw coil::OSError("cannot make a temporary directory");
        path = name;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
};

/// A certificate for "localhost" that vouches for itself, and its key.
bool make_certificate(const std::string& certificate, const std::string& key) {
    std::string command = fmt::format(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "
        "/CN=localhost "
        "-addext subjectAltName=DNS:localhost -addext keyUsage=critical,digitalSignature,keyCertSign "
        "-keyout '{}' -out '{}' 2>/dev/null",
        key, certificate);
    return std::system(command.c_str()) == 0;
}

coil::Coro<> greet(coil::StreamReader reader, coil::StreamWriter writer) {
    std::string name = co_await reader.readline();
    writer.write("hello, " + name);
    co_await writer.drain();
    writer.close();
}

coil::Coro<> ask(int port, coil::SslContext context) {
    // The name is the one in the certificate; the address is where the server happens to run.
    auto [reader, writer] =
        co_await coil::open_connection("127.0.0.1", port, {.ssl = &context, .server_hostname = "localhost"});
    auto tls = std::any_cast<coil::SslObject>(writer.get_extra_info("ssl_object"));
    fmt::print("{} with {}\n", tls.version(), tls.getpeercert()->subject().front().second);
    writer.write("ada\n");
    std::string answer = co_await reader.readline();
    fmt::print("{}", answer);
    writer.close();
    co_await writer.wait_closed();
}

coil::Coro<> serve_and_ask(std::string certificate, std::string key) {
    coil::SslContext ours = coil::create_default_context(coil::SslPurpose::CLIENT_AUTH);
    ours.load_cert_chain(certificate, key);
    coil::Server server = co_await coil::start_server(greet, "127.0.0.1", 0, {.ssl = &ours});
    int port = server.sockets().front().getsockname().port;

    coil::SslPurpose servers = coil::SslPurpose::SERVER_AUTH;
    co_await ask(port, coil::create_default_context(servers, {.cafile = certificate}));

    // The system's authorities know nothing of our certificate.
    auto outcome = co_await coil::try_await(ask(port, coil::create_default_context(servers)));
    if (!outcome) fmt::print("{}\n", coil::describe_exception(outcome.error()));

    server.close();
    co_await server.wait_closed();
}

int main() {
    TemporaryDirectory directory;
    std::string certificate = directory.path / "certificate.pem";
    std::string key = directory.path / "key.pem";
    if (!make_certificate(certificate, key)) {
        fmt::print(
            stderr,
            "This example makes its certificate with the command `openssl`: install the package openssl.\n");
        return 77;
    }
    coil::run(serve_and_ask(certificate, key));
}
