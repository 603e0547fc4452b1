#include "io/tls_engine.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "io/openssl.hpp"

namespace coil::detail {

/// OpenSSL's view of an engine: a BIO that reads what was fed and writes the output, without copies of its own.
struct EngineBio {
    static BIO* make(TlsEngine& engine) {
        static BIO_METHOD* const method = make_method();
        BIO* bio = BIO_new(method);
        if (!bio) throw std::bad_alloc();
        BIO_set_data(bio, &engine);
        BIO_set_init(bio, 1);
        return bio;
    }

  private:
    static BIO_METHOD* make_method() {
        BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "coil");
        if (!method) throw std::bad_alloc();
        BIO_meth_set_read_ex(method, read);
        BIO_meth_set_write_ex(method, write);
        BIO_meth_set_ctrl(method, control);
        return method;
    }

    static TlsEngine* engine_of(BIO* bio) { return static_cast<TlsEngine*>(BIO_get_data(bio)); }

    static int read(BIO* bio, char* space, std::size_t size, std::size_t* taken) {
        BIO_clear_retry_flags(bio);
        TlsEngine* engine = engine_of(bio);
        *taken = 0;
        if (!engine) return 0;
        if (std::size_t kept = engine->kept_.size() - engine->kept_begin_; kept > 0) {
            std::size_t part = std::min(size, kept);
            std::memcpy(space, engine->kept_.data() + engine->kept_begin_, part);
            engine->kept_begin_ += part;
            if (part == kept) {
                std::string().swap(engine->kept_);
                engine->kept_begin_ = 0;
            }
            *taken = part;
        }
        if (*taken < size && !engine->lent_.empty()) {
            std::size_t part = std::min(size - *taken, engine->lent_.size());
            std::memcpy(space + *taken, engine->lent_.data(), part);
            engine->lent_.remove_prefix(part);
            *taken += part;
        }
        if (*taken > 0) return 1;
        if (!engine->eof_) BIO_set_retry_read(bio);
        return 0;
    }

    static int write(BIO* bio, const char* data, std::size_t size, std::size_t* taken) {
        BIO_clear_retry_flags(bio);
        TlsEngine* engine = engine_of(bio);
        *taken = 0;
        if (!engine) return 0;
        try {
            std::string& output = engine->output_;
            if (output.empty() && output.capacity() < spare().capacity()) output.swap(spare());
            output.append(data, size);
        } catch (const std::bad_alloc&) {  // must not pass through OpenSSL
            return 0;
        }
        *taken = size;
        return 1;
    }

    static long control(BIO* bio, int command, long, void*) {
        TlsEngine* engine = engine_of(bio);
        switch (command) {
            case BIO_CTRL_FLUSH:
            case BIO_CTRL_DUP:
                return 1;
            case BIO_CTRL_EOF:
                return !engine || (engine->eof_ && engine->unread() == 0);
            default:
                return 0;
        }
    }

  public:
    /// Memory for output, which is sent and gone before another engine of the thread needs it, as a rule: so an idle engine has
    /// none, and a busy one allocates none.
    static std::string& spare() {
        static thread_local std::string memory;
        return memory;
    }
};

TlsEngine::TlsEngine(const SslContext& context, bool server_side, const std::string& server_hostname,
                     const std::optional<SslSession>& session)
    : state_(std::make_shared<SslObjectState>(context, server_side)) {
    if (server_side != (context.protocol() == SslProtocol::TLS_SERVER))
        throw SslError(server_side ? "Cannot create a server socket with a PROTOCOL_TLS_CLIENT context"
                                   : "Cannot create a client socket with a PROTOCOL_TLS_SERVER context");
    if (server_side && !server_hostname.empty())
        throw ValueError("server_hostname can only be specified in client mode");
    if (server_side && session) throw ValueError("session can only be specified in client mode");
    if (!server_side && server_hostname.empty() && context.check_hostname())
        throw ValueError("check_hostname requires server_hostname");
    ERR_clear_error();
    state_->ssl.reset(SSL_new(context.state()->ctx.get()));
    ssl_ = state_->ssl.get();
    if (!ssl_) throw_ssl_error();
    SSL_set_app_data(ssl_, state_.get());
    if (!server_hostname.empty()) set_hostname(server_hostname, context.check_hostname());
    if (session) set_session(*session);
    bio_ = EngineBio::make(*this);
    SSL_set_bio(ssl_, bio_, bio_);
    server_side ? SSL_set_accept_state(ssl_) : SSL_set_connect_state(ssl_);
}

TlsEngine::~TlsEngine() {
    if (bio_) BIO_set_data(bio_, nullptr);  // the object may live on
}

void TlsEngine::set_hostname(const std::string& name, bool check) {
    if (name.front() == '.')
        throw ValueError("server_hostname cannot be an empty string or start with a leading dot.");
    for (char c : name) {
        if (c == '\0') throw ValueError("embedded null character");
        if (static_cast<unsigned char>(c) > 127)
            throw ValueError("server_hostname must be ASCII: give the xn-- form of an international name");
    }
    state_->server_hostname = name;
    Owned<ASN1_OCTET_STRING, &ASN1_OCTET_STRING_free> address(a2i_IPADDRESS(name.c_str()));
    ERR_clear_error();
    X509_VERIFY_PARAM* param = SSL_get0_param(ssl_);
    // An address is not sent. SSL_set_tlsext_host_name without its old-style cast; the name is only read.
    bool good = address || SSL_ctrl(ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                                    const_cast<char*>(name.c_str())) == 1;
    if (good && check) {
        good = address ? X509_VERIFY_PARAM_set1_ip(
                             param, ASN1_STRING_get0_data(address.get()),
                             static_cast<std::size_t>(ASN1_STRING_length(address.get()))) == 1
                       : X509_VERIFY_PARAM_set1_host(param, name.data(), name.size()) == 1;
    }
    if (!good) throw_ssl_error();
}

void TlsEngine::set_session(const SslSession& session) {
    if (!(session.state()->context == state_->context))
        throw ValueError("Session refers to a different SSLContext.");
    Owned<SSL_SESSION, &SSL_SESSION_free> copy(SSL_SESSION_dup(session.state()->session.get()));
    if (!copy || SSL_set_session(ssl_, copy.get()) != 1) throw_ssl_error();
}

void TlsEngine::keep(std::string_view data) {
    if (data.empty()) return;
    if (kept_begin_ > 0) {
        kept_.erase(0, kept_begin_);
        kept_begin_ = 0;
    }
    kept_.append(data);
}

void TlsEngine::drop_output(std::size_t size) noexcept {
    output_begin_ += size;
    if (output_begin_ < output_.size()) return;
    output_.clear();
    output_begin_ = 0;
    constexpr std::size_t LARGEST_SPARE = 1 << 20;
    std::string& spare = EngineBio::spare();
    if (output_.capacity() > spare.capacity() && output_.capacity() <= LARGEST_SPARE) spare.swap(output_);
    if (output_.capacity() > std::string().capacity()) std::string().swap(output_);
}

std::optional<TlsEngine::Status> TlsEngine::stopped(int result) {
    switch (int error = SSL_get_error(ssl_, result)) {
        case SSL_ERROR_WANT_READ:
            ERR_clear_error();
            return Status::WANT_INPUT;
        case SSL_ERROR_ZERO_RETURN:
            ERR_clear_error();
            return Status::CLOSED;
        default:
            failed_ = take_connection_error(*state_, error);
            return std::nullopt;
    }
}

TlsEngine::Status TlsEngine::do_handshake() {
    check_failed();
    ERR_clear_error();
    int result = SSL_do_handshake(ssl_);
    if (result == 1) return Status::DONE;
    std::optional<Status> status = stopped(result);
    // A close_notify instead of an answer.
    if (status == Status::CLOSED) failed_ = std::make_exception_ptr(SslEofError());
    check_failed();
    return *status;
}

TlsEngine::Read TlsEngine::read(std::span<std::byte> space) {
    check_failed();
    std::size_t taken = 0;
    while (taken < space.size()) {
        ERR_clear_error();
        std::size_t size = 0;
        int result = SSL_read_ex(ssl_, space.data() + taken, space.size() - taken, &size);
        if (result == 1) {
            taken += size;
            continue;
        }
        if (std::optional<Status> status = stopped(result)) return {taken, *status};
        if (taken == 0) check_failed();
        break;  // first what came before the error
    }
    return {taken, Status::DONE};
}

TlsEngine::Status TlsEngine::write(std::string_view data) {
    check_failed();
    if (data.empty()) return Status::DONE;
    ERR_clear_error();
    std::size_t size = 0;
    int result = SSL_write_ex(ssl_, data.data(), data.size(), &size);
    if (result == 1) return Status::DONE;
    std::optional<Status> status = stopped(result);
    if (status == Status::CLOSED) failed_ = std::make_exception_ptr(SslZeroReturnError());
    check_failed();
    return *status;
}

TlsEngine::Status TlsEngine::shutdown() {
    check_failed();
    if (!(SSL_get_shutdown(ssl_) & SSL_SENT_SHUTDOWN)) {
        ERR_clear_error();
        int result = SSL_shutdown(ssl_);
        if (result == 1) return Status::DONE;
        if (result < 0 && !stopped(result)) check_failed();
    }
    if (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) return Status::DONE;
    // Not by SSL_shutdown: that fails when data come before the close_notify.
    std::array<std::byte, 4096> dropped;
    Read last{0, Status::DONE};
    while (last.status == Status::DONE) last = read(dropped);
    return last.status == Status::CLOSED ? Status::DONE : last.status;
}

}  // namespace coil::detail
