// Two TlsEngines with an attacker between them, who follows the fuzzer's input: he lets bytes pass, changes, drops and invents
// some. The engines may fail only by the errors that they promise, and what one reads is always a beginning of what the other
// wrote.
//
//   tls_engine_fuzz [libFuzzer's options] [DIR]     without options it goes on until it finds something

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "coil/exceptions.hpp"
#include "io/tls_engine.hpp"
#include "support/tls.hpp"

namespace {

using coil::detail::TlsEngine;

struct Side {
    TlsEngine engine;
    std::string written{};
    std::string received{};
    bool done = false;
    bool failed = false;
    bool said_goodbye = false;
};

void check(bool good) {
    if (!good) std::abort();
}

template <class Call>
void attempt(Side& side, Call call) {
    try {
        call();
    } catch (const coil::SslError&) {  // the handshake or the connection has failed: it may
        side.failed = true;
    }
}

void use(Side& side, std::uint8_t operation, std::span<const std::uint8_t> bytes) {
    attempt(side, [&] {
        switch (operation % 5) {
            case 0:
                side.done = side.engine.do_handshake() == TlsEngine::Status::DONE || side.done;
                break;
            case 1: {
                std::byte space[300];
                auto [size, status] = side.engine.read(std::span(space, 1 + bytes.size() % sizeof space));
                // shutdown() has dropped some: the rest need not follow on.
                if (!side.said_goodbye) side.received.append(reinterpret_cast<const char*>(space), size);
                break;
            }
            case 2: {
                std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                text.resize(text.size() * (1 + bytes.size()), 'x');
                if (!side.said_goodbye && side.engine.write(text) == TlsEngine::Status::DONE)
                    side.written += text;
                break;
            }
            case 3:
                if (!side.done) break;
                side.said_goodbye = true;
                side.engine.shutdown();
                break;
            default:
                side.engine.feed_eof();
        }
    });
}

/// Brings output across; gives the number of input bytes that it used.
void carry(Side& from, Side& to, std::uint8_t operation, std::span<const std::uint8_t> bytes) {
    std::string data(from.engine.output());
    std::uint8_t amount = bytes.empty() ? 255 : bytes[0];
    switch (operation % 6) {
        case 0:
        case 1:
            break;  // all of it
        case 2:
            data.resize(data.size() * amount / 255);
            break;
        case 3:
            if (!data.empty() && bytes.size() > 1) {
                std::size_t at = (std::size_t{bytes[0]} * 256 + bytes[1]) % data.size();
                data[at] = static_cast<char>(data[at] ^ (bytes.size() > 2 ? bytes[2] | 1 : 1));
            }
            break;
        case 4:
            from.engine.drop_output(data.size());
            return;
        default:
            to.engine.feed({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
            return;
    }
    from.engine.drop_output(data.size());
    TlsEngine::Lent lent(to.engine, data);
    if (to.done) {
        use(to, 1, bytes);
    } else {
        use(to, 0, bytes);
    }
}

coil::SslContext context_of(bool server, bool old) {
    coil::SslContext context = server ? support::server_context() : support::client_context();
    if (old) context.set_maximum_version(coil::TlsVersion::TLSv1_2);
    return context;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const coil::SslContext CONTEXTS[2][2] = {{context_of(false, false), context_of(true, false)},
                                                    {context_of(false, true), context_of(true, true)}};
    std::span<const std::uint8_t> input(data, size);
    if (input.empty()) return 0;
    std::uint8_t mode = input[0];
    input = input.subspan(1);
    const auto& contexts = CONTEXTS[mode & 1];
    Side client{.engine = TlsEngine(contexts[0], false, "localhost")};
    Side server{.engine = TlsEngine(contexts[1], true)};
    if (mode & 2) {  // most inputs would never come through a handshake
        for (int i = 0; i < 4; ++i) {
            use(client, 0, {});
            carry(client, server, 0, {});
            use(server, 0, {});
            carry(server, client, 0, {});
        }
    }
    while (input.size() >= 2) {
        std::uint8_t operation = input[0];
        std::size_t length = std::min<std::size_t>(input[1], input.size() - 2);
        auto bytes = input.subspan(2, length);
        input = input.subspan(2 + length);
        bool swap = operation & 128;
        Side& one = swap ? server : client;
        Side& other = swap ? client : server;
        if (operation & 64) {
            carry(one, other, operation & 63, bytes);
        } else {
            use(one, operation & 63, bytes);
        }
    }
    check(server.written.starts_with(client.received));
    check(client.written.starts_with(server.received));
    return 0;
}
