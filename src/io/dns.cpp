#include "io/dns.hpp"

#include <netdb.h>

#include <cerrno>
#include <memory>
#include <thread>

#include "coil/detail/task_base.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "loop/inbox.hpp"

namespace coil::detail {

namespace {

class LookupWait;

/// One blocking lookup. Shared by the waiting coroutine and the thread; comes back through the loop's inbox.
struct Lookup : Runnable {
    Lookup(std::string host_name, int port_number, bool for_listening)
        : Runnable(&Lookup::arrive),
          host(std::move(host_name)),
          port(std::to_string(port_number)),
          passive(for_listening) {}

    void work() {
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_flags = passive ? AI_PASSIVE : 0;
        addrinfo* list = nullptr;
        error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &list);
        system_error = errno;
        for (addrinfo* entry = list; entry; entry = entry->ai_next)
            addresses.emplace_back(entry->ai_addr, entry->ai_addrlen);
        if (list) ::freeaddrinfo(list);
    }
    static void arrive(Runnable& self, How how);

    std::string host;
    std::string port;
    bool passive;
    int error = 0;
    int system_error = 0;
    std::vector<Address> addresses;
    LookupWait* waiter = nullptr;          // the loop's thread only
    std::shared_ptr<Lookup> keeps_itself;  // while the inbox has it
};

class LookupWait final : public LeafWaiter, public OperationTag {
  public:
    explicit LookupWait(std::shared_ptr<Lookup> lookup) noexcept : lookup_(std::move(lookup)) {}
    ~LookupWait() { lookup_->waiter = nullptr; }
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> at) {
        LeafWaiter::suspend(at);
        lookup_->waiter = this;
    }
    void await_resume() { throw_if_cancelled(); }
    std::string describe() const override { return "getaddrinfo('" + lookup_->host + "')"; }
    void arrived() noexcept {
        if (pending()) wake();
    }

  private:
    std::shared_ptr<Lookup> lookup_;
};

void Lookup::arrive(Runnable& self, How how) {
    auto lookup = std::move(static_cast<Lookup&>(self).keeps_itself);
    if (how == How::RUN && lookup->waiter) lookup->waiter->arrived();
}

}  // namespace

Coro<std::vector<Address>> resolve(std::string host, int port, bool passive) {
    check_port(port);
    if (auto address = numeric_address(host, port)) {
        std::vector<Address> one;
        one.push_back(*address);
        co_return one;
    }
    auto lookup = std::make_shared<Lookup>(host, port, passive);
    auto in_thread = [lookup, inbox = get_running_loop().core().inbox]() mutable {
        lookup->work();
        Lookup& done = *lookup;
        done.keeps_itself = std::move(lookup);
        if (!inbox->push(done)) auto loop_is_closed = std::move(done.keeps_itself);
    };
    std::thread(std::move(in_thread)).detach();
    co_await LookupWait(lookup);
    if (lookup->error == EAI_SYSTEM) throw_os_error(lookup->system_error);
    if (lookup->error != 0) throw GaiError(lookup->error);
    if (lookup->addresses.empty()) throw OSError("getaddrinfo() returned empty list");
    co_return std::move(lookup->addresses);
}

}  // namespace coil::detail
