#include "coil/process_pool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/type_name.hpp"
#include "coil/log.hpp"
#include "io/pidfd.hpp"
#include "io/spawn.hpp"
#include "sync/worker_pool.hpp"

namespace coil {

namespace detail {

namespace {

// ---- functions by name

struct NamedFunction {
    RemoteInvoker invoke = nullptr;
    bool ambiguous = false;
};

std::map<std::string_view, NamedFunction>& functions() {
    static std::map<std::string_view, NamedFunction> all;
    return all;
}

bool freeze_support_called = false;

// ---- messages: a socket carries texts, each behind its length

class Channel {
  public:
    explicit Channel(int fd) noexcept : fd_(fd) {}

    /// False if the other side is gone.
    bool send(std::string_view text) const {
        std::uint64_t size = text.size();
        return send_all(&size, sizeof size) && send_all(text.data(), text.size());
    }
    bool receive(std::string& text) const {
        std::uint64_t size = 0;
        if (!receive_all(&size, sizeof size)) return false;
        text.resize(size);
        return receive_all(text.data(), text.size());
    }

  private:
    bool send_all(const void* data, std::size_t size) const {
        const auto* bytes = static_cast<const char*>(data);
        while (size > 0) {
            ssize_t sent = ::send(fd_, bytes, size, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0) return false;
            bytes += sent;
            size -= static_cast<std::size_t>(sent);
        }
        return true;
    }
    bool receive_all(void* data, std::size_t size) const {
        auto* bytes = static_cast<char*>(data);
        while (size > 0) {
            ssize_t received = ::recv(fd_, bytes, size, 0);
            if (received < 0 && errno == EINTR) continue;
            if (received <= 0) return false;
            bytes += received;
            size -= static_cast<std::size_t>(received);
        }
        return true;
    }
    int fd_;
};

// ---- exceptions as texts: the type, the errno, the message

template <class E>
std::exception_ptr with_message(const std::string& message) {
    return std::make_exception_ptr(E(message));
}
std::exception_ptr bad_alloc(const std::string&) { return std::make_exception_ptr(std::bad_alloc()); }

struct TravellingType {
    const std::type_info& type;
    std::exception_ptr (*make)(const std::string& message);
};

const std::array TRAVELLING{
    TravellingType{typeid(RuntimeError), &with_message<RuntimeError>},
    TravellingType{typeid(ValueError), &with_message<ValueError>},
    TravellingType{typeid(TypeError), &with_message<TypeError>},
    TravellingType{typeid(LookupError), &with_message<LookupError>},
    TravellingType{typeid(InvalidStateError), &with_message<InvalidStateError>},
    TravellingType{typeid(TimeoutError), &with_message<TimeoutError>},
    TravellingType{typeid(std::runtime_error), &with_message<std::runtime_error>},
    TravellingType{typeid(std::range_error), &with_message<std::range_error>},
    TravellingType{typeid(std::overflow_error), &with_message<std::overflow_error>},
    TravellingType{typeid(std::underflow_error), &with_message<std::underflow_error>},
    TravellingType{typeid(std::logic_error), &with_message<std::logic_error>},
    TravellingType{typeid(std::invalid_argument), &with_message<std::invalid_argument>},
    TravellingType{typeid(std::domain_error), &with_message<std::domain_error>},
    TravellingType{typeid(std::length_error), &with_message<std::length_error>},
    TravellingType{typeid(std::out_of_range), &with_message<std::out_of_range>},
    TravellingType{typeid(std::bad_alloc), &bad_alloc},
};

struct TravellingError {
    std::string type;
    int error = 0;
    std::string message;

    template <class Archive>
    void serialize(Archive& archive) {
        archive(type, error, message);
    }
};

TravellingError describe_current_exception() {
    try {
        throw;
    } catch (const TimeoutError& e) {
        return {typeid(TimeoutError).name(), 0, e.what()};
    } catch (const OSError& e) {
        // The message begins with "[Errno N] ", which the constructor adds again.
        std::string message = e.what();
        std::string begin = fmt::format("[Errno {}] ", e.code().value());
        if (message.starts_with(begin)) message.erase(0, begin.size());
        return {typeid(OSError).name(), e.code().value(), std::move(message)};
    } catch (const std::exception& e) {
        return {typeid(e).name(), 0, e.what()};
    } catch (...) {
        return {"", 0, describe_exception(std::current_exception())};
    }
}

std::exception_ptr make_exception(const TravellingError& error) {
    if (error.type == typeid(OSError).name()) return make_os_error(error.error, error.message);
    for (const TravellingType& known : TRAVELLING) {
        if (error.type == known.type.name()) return known.make(error.message);
    }
    std::string name = error.type.empty() ? "" : demangle(error.type.c_str()) + ": ";
    return std::make_exception_ptr(RuntimeError(name + error.message));
}

/// Of an answer that is an error.
std::exception_ptr thrown_there(std::string_view answer) {
    return make_exception(decode_value<TravellingError>(answer.substr(1)));
}

// ---- the worker's side

constexpr const char* WORKER_FD = "COIL_PROCESS_WORKER";
constexpr char RESULT = 'r';
constexpr char ERROR = 'e';

std::string call_by_name(const std::string& name, std::string_view arguments) {
    auto found = functions().find(name);
    if (found == functions().end()) throw RuntimeError("no process_function " + demangle(name.c_str()));
    return found->second.invoke(arguments);
}

template <class Call>
std::string answer_of(Call&& call) {
    try {
        return RESULT + call();
    } catch (...) {
        std::string bytes;
        encode_values<cereal::BinaryOutputArchive>(bytes, describe_current_exception());
        return ERROR + bytes;
    }
}

[[noreturn]] void serve(int fd) {
    Channel parent(fd);
    std::string name;
    std::string arguments;
    while (parent.receive(name) && parent.receive(arguments)) {
        if (!parent.send(answer_of([&] { return call_by_name(name, arguments); }))) break;
    }
    std::exit(0);
}

}  // namespace

bool register_process_function(const char* name, RemoteInvoker invoke) {
    auto [at, is_new] = functions().try_emplace(name);
    if (!is_new && at->second.invoke != invoke) at->second.ambiguous = true;
    at->second.invoke = invoke;
    return true;
}

}  // namespace detail

void freeze_support() {
    detail::freeze_support_called = true;
    const char* text = std::getenv(detail::WORKER_FD);
    if (!text) return;
    int fd = std::atoi(text);
    ::unsetenv(detail::WORKER_FD);
    ::unsetenv("COIL_TRACE");  // the file is the parent's
    // A program that a function leaves behind would keep the worker's end from being seen.
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    detail::serve(fd);
}

namespace {

BrokenProcessPool broken_while_pending() {
    return BrokenProcessPool(
        "A process in the process pool was terminated abruptly while the future was running or pending.");
}

}  // namespace

// ---- the parent's side: a thread of the pool for each worker, which it feeds and waits for

struct ProcessPoolExecutor::State {
    class Worker;

    explicit State(ProcessPoolOptions its_options) : options(its_options) {
        for (char** entry = ::environ; *entry; ++entry) {
            std::string_view variable(*entry);
            std::size_t sign = variable.find('=');
            if (sign != std::string_view::npos && sign > 0)
                environment.emplace(variable.substr(0, sign), variable.substr(sign + 1));
        }
    }

    void break_pool() noexcept {
        {
            std::lock_guard lock(mutex);
            if (std::exchange(broken, true)) return;
        }
        signal_workers(SIGTERM);
    }
    void signal_workers(int number) noexcept;
    bool is_broken() {
        std::lock_guard lock(mutex);
        return broken;
    }

    const ProcessPoolOptions options;
    std::map<std::string, std::string> environment;  // of the workers: the threads must not read ours
    std::mutex mutex;
    std::set<Worker*> workers;
    bool broken = false;
};

/// A worker process; belongs to a thread.
class ProcessPoolExecutor::State::Worker {
  public:
    explicit Worker(std::shared_ptr<State> state) : state_(std::move(state)) {
        auto [ours, theirs] = Socket::pair();
        for (const Socket* end : {&ours, &theirs}) {
            if (::fcntl(end->fileno(), F_SETFL, 0) < 0) throw_os_error(errno);
        }
        auto variables = state_->environment;
        variables[detail::WORKER_FD] = std::to_string(theirs.fileno());
        std::array<int, 1> pass{theirs.fileno()};
        SubprocessOptions how{
            .stdin_ = DEVNULL, .env = variables, .executable = "/proc/self/exe", .pass_fds = pass};
        std::vector<std::string> argv(1, program_invocation_name);
        child_ = detail::SpawnPlan(std::move(argv), how, INHERIT).start();
        socket_ = std::move(ours);
        std::lock_guard lock(state_->mutex);
        state_->workers.insert(this);
        if (state_->broken) signal(SIGTERM);
    }
    ~Worker() {
        {
            std::lock_guard lock(state_->mutex);
            state_->workers.erase(this);
        }
        socket_.close();
        while (::waitpid(child_.pid, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// RuntimeError if the initializer throws.
    void initialize() {
        if (!state_->options.initializer) return;
        std::string answer;
        if (call(state_->options.initializer.name(), {}, answer) && answer.front() == detail::RESULT) {
            calls_ = 0;
            return;
        }
        log(LogLevel::CRITICAL, answer.empty() ? "A worker process ended in its initializer"
                                               : "Exception in initializer:\n" +
                                                     describe_exception(detail::thrown_there(answer)));
        throw broken_while_pending();
    }
    /// False if the process is gone.
    bool call(std::string_view name, std::string_view arguments, std::string& answer) {
        ++calls_;
        detail::Channel channel(socket_.fileno());
        return channel.send(name) && channel.send(arguments) && channel.receive(answer) && !answer.empty();
    }
    bool used_up() const noexcept {
        return state_->options.max_tasks_per_child && calls_ >= *state_->options.max_tasks_per_child;
    }
    void signal(int number) noexcept {
        if (child_.pidfd) detail::signal_pidfd(child_.pidfd.fileno(), number);
    }

  private:
    std::shared_ptr<State> state_;
    detail::SpawnedChild child_;
    Socket socket_;
    std::size_t calls_ = 0;
};

void ProcessPoolExecutor::State::signal_workers(int number) noexcept {
    std::lock_guard lock(mutex);
    for (Worker* worker : workers) worker->signal(number);
}

namespace {

class RemoteWork final : public detail::Work {
  public:
    using State = ProcessPoolExecutor::State;

    RemoteWork(std::shared_ptr<State> state, std::shared_ptr<ExecutorCall> its_call) noexcept
        : call(std::move(its_call)), state_(std::move(state)) {}

    void work(std::shared_ptr<Work>) noexcept override {
        try {
            if (state_->is_broken()) return call->fail(std::make_exception_ptr(broken_while_pending()));
            std::string arguments;
            if (!call->begin(arguments)) return;
            std::string answer = ask(call->remote_name(), arguments);
            if (answer.front() == detail::RESULT) {
                call->finish(std::string_view(answer).substr(1));
            } else {
                call->fail(detail::thrown_there(answer));
            }
        } catch (...) {
            call->fail(std::current_exception());
        }
        if (worker && worker->used_up()) worker.reset();  // waits for its end: nobody else should
    }

    std::shared_ptr<ExecutorCall> call;

  private:
    /// The worker of this thread of the pool, and its end: with the thread's.
    static thread_local std::unique_ptr<State::Worker> worker;

    std::string ask(std::string_view name, std::string_view arguments) {
        std::string answer;
        if (!worker) start_worker();
        if (!worker->call(name, arguments, answer)) {
            worker.reset();
            state_->break_pool();
            throw broken_while_pending();
        }
        return answer;
    }
    void start_worker() {
        try {
            worker = std::make_unique<State::Worker>(state_);
            worker->initialize();
        } catch (...) {
            worker.reset();
            state_->break_pool();
            throw;
        }
    }

    std::shared_ptr<State> state_;
};

thread_local std::unique_ptr<RemoteWork::State::Worker> RemoteWork::worker;

std::size_t size(std::optional<std::size_t> max_workers) {
    if (max_workers == 0) throw ValueError("max_workers must be greater than 0");
    return max_workers.value_or(std::max(std::thread::hardware_concurrency(), 1u));
}

}  // namespace

ProcessPoolExecutor::ProcessPoolExecutor(std::optional<std::size_t> max_workers, ProcessPoolOptions options)
    : state_(std::make_shared<State>(options)),
      pool_(std::make_unique<detail::WorkerPool>(size(max_workers), detail::WorkerPool::Signals::INHERITED)) {
    if (!detail::freeze_support_called)
        throw RuntimeError("call coil::freeze_support() first in main(): worker processes begin there");
    if (options.max_tasks_per_child == 0) throw ValueError("max_tasks_per_child must be >= 1");
}

ProcessPoolExecutor::~ProcessPoolExecutor() {
    try {
        if (!abandoned_) end({});
    } catch (const RuntimeError& e) {
        log(LogLevel::ERROR_, std::string("destroying a ProcessPoolExecutor: ") + e.what());
    }
    pool_->detach();
}

void ProcessPoolExecutor::execute(std::shared_ptr<ExecutorCall> call) {
    std::string_view name = call->remote_name();
    if (name.empty()) throw TypeError("a worker process can call a coil::process_function only");
    if (detail::functions().at(name).ambiguous)
        throw ValueError("there are two process functions " + detail::demangle(name.data()));
    if (state_->is_broken())
        throw BrokenProcessPool(
            "A child process terminated abruptly, the process pool is not usable anymore");
    pool_->submit(std::make_shared<RemoteWork>(state_, std::move(call)));
}

std::string ProcessPoolExecutor::describe() const {
    return "<ProcessPoolExecutor " + pool_->describe("workers") + ">";
}

void ProcessPoolExecutor::end(ShutdownOptions options) {
    pool_->close();
    if (options.cancel_futures) {
        for (const auto& work : pool_->take_queued()) static_cast<RemoteWork&>(*work).call->cancel();
    }
    abandoned_ = !options.wait;
    if (options.wait) pool_->join();
}

void ProcessPoolExecutor::terminate_workers() {
    state_->break_pool();
    state_->signal_workers(SIGTERM);
}

void ProcessPoolExecutor::kill_workers() {
    state_->break_pool();
    state_->signal_workers(SIGKILL);
}

}  // namespace coil
