// fuzz_interpreter < PROGRAMS
//
// Runs programs of the fuzzer on coil, on virtual time, and prints their traces; interpreter.py does the same on CPython's
// asyncio. One program per line; its trace ends with a line "end". programs.py says what a program looks like.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "coil/coil.hpp"
#include "coil/testing/virtual_loop.hpp"

namespace {

using coil::Coro;
using Milliseconds = std::chrono::milliseconds;

struct AppError : std::runtime_error {
    explicit AppError(long number) : runtime_error("App" + std::to_string(number)) {}
};

// ---- programs

/// (id op numbers… nodes…)
struct Node {
    long id = 0;
    std::string op;
    std::vector<long> numbers;
    std::vector<Node> nodes;
};

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}
    Node parse() {
        Node node;
        expect('(');
        node.id = number();
        node.op = word();
        while (peek() != ')') {
            if (peek() == '(') {
                node.nodes.push_back(parse());
            } else {
                node.numbers.push_back(number());
            }
        }
        expect(')');
        return node;
    }

  private:
    char peek() {
        text_.remove_prefix(std::min(text_.find_first_not_of(' '), text_.size()));
        return text_.empty() ? '\0' : text_.front();
    }
    void expect(char c) {
        if (peek() != c) throw std::runtime_error(fmt::format("'{}' expected before: {}", c, text_));
        text_.remove_prefix(1);
    }
    std::string word() {
        peek();
        std::size_t end = std::min(text_.find_first_of(" ()"), text_.size());
        std::string found(text_.substr(0, end));
        text_.remove_prefix(end);
        return found;
    }
    long number() {
        std::string digits = word();
        long value = 0;
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (error != std::errc() || end != digits.data() + digits.size())
            throw std::runtime_error("not a number: " + digits);
        return value;
    }

    std::string_view text_;
};

// ---- traces

std::string name_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const coil::CancelledError&) {
        return "Cancelled";
    } catch (const AppError& e) {
        return e.what();
    } catch (const coil::ExceptionGroup& group) {
        std::vector<std::string> names;
        for (const std::exception_ptr& member : group.exceptions()) names.push_back(name_of(member));
        return fmt::format("Group[{}]", fmt::join(names, ","));
    } catch (const coil::TimeoutError&) {
        return "TimeoutError";
    } catch (const coil::BrokenBarrierError&) {
        return "BrokenBarrierError";
    } catch (const coil::QueueFull&) {
        return "QueueFull";
    } catch (const coil::QueueEmpty&) {
        return "QueueEmpty";
    } catch (const coil::QueueShutDown&) {
        return "QueueShutDown";
    } catch (const coil::InvalidStateError&) {
        return "InvalidStateError";
    } catch (const coil::ValueError&) {
        return "ValueError";
    } catch (const coil::RuntimeError&) {
        return "RuntimeError";
    } catch (const std::exception& e) {
        return std::string("unexpected: ") + e.what();
    }
}

template <class T>
std::string text_of(const coil::Outcome<T>& outcome) {
    return outcome.has_value() ? outcome.value() : "!" + name_of(outcome.exception());
}

const char* yes_no(bool flag) { return flag ? "yes" : "no"; }

// ---- the world of one program

using AnyQueue = std::variant<std::unique_ptr<coil::Queue<long>>, std::unique_ptr<coil::PriorityQueue<long>>,
                              std::unique_ptr<coil::LifoQueue<long>>>;

/// One body that runs: the task of a spawn, an argument of gather, the main program.
struct Body {
    std::string name;
    std::vector<coil::Timeout*> timeouts;  // entered, the innermost last
    std::vector<coil::TaskGroup*> groups;
};

template <class T>
class Pushed {
  public:
    Pushed(std::vector<T*>& stack, T& item) : stack_(stack) { stack_.push_back(&item); }
    ~Pushed() { stack_.pop_back(); }
    Pushed(const Pushed&) = delete;
    Pushed& operator=(const Pushed&) = delete;

  private:
    std::vector<T*>& stack_;
};

class World {
  public:
    World(bool tolerant, const Node& objects) : tolerant_(tolerant) {
        for (const Node& object : objects.nodes) {
            auto number = [&](std::size_t i) { return object.numbers.at(i); };
            if (object.op == "lock") {
                locks_.push_back(std::make_unique<coil::Lock>());
            } else if (object.op == "semaphore") {
                semaphores_.push_back(number(1) ? std::make_unique<coil::BoundedSemaphore>(number(0))
                                                : std::make_unique<coil::Semaphore>(number(0)));
            } else if (object.op == "event") {
                events_.push_back(std::make_unique<coil::Event>());
            } else if (object.op == "condition") {
                conditions_.push_back(std::make_unique<coil::Condition>());
            } else if (object.op == "barrier") {
                barriers_.push_back(std::make_unique<coil::Barrier>(number(0)));
            } else if (object.op == "queue") {
                if (number(0) == 0) queues_.push_back(std::make_unique<coil::Queue<long>>(number(1)));
                if (number(0) == 1) queues_.push_back(std::make_unique<coil::PriorityQueue<long>>(number(1)));
                if (number(0) == 2) queues_.push_back(std::make_unique<coil::LifoQueue<long>>(number(1)));
            } else {
                throw std::runtime_error("no object '" + object.op + "'");
            }
        }
    }

    Coro<> run_main(const Node& program) {
        Body main{.name = "main", .timeouts = {}, .groups = {}};
        auto outcome = co_await coil::try_await(run_all(main, program));
        log(main, -1, outcome.has_value() ? "end" : "!" + name_of(outcome.exception()));
        std::vector<coil::Task<>> left;
        for (coil::Task<>& task : coil::all_tasks()) {
            if (task != coil::current_task()) left.push_back(task);
        }
        for (coil::Task<>& task : left) task.cancel();
        if (!left.empty()) co_await coil::wait(left);
        log(main, -1, "all done");
    }

    /// What happens from here on is no part of the trace.
    void stop_logging() { logging_ = false; }

  private:
    void log(const Body& body, long id, std::string_view text) {
        if (!logging_) return;
        auto now = coil::get_running_loop().time() - start_;
        fmt::print("{} {}:{} {}\n", std::chrono::duration_cast<Milliseconds>(now).count(), body.name, id,
                   text);
    }

    /// A body of its own, in the task that awaits it.
    Coro<std::string> run_body(std::string name, const Node& node) {
        Body body{.name = std::move(name), .timeouts = {}, .groups = {}};
        co_await run_all(body, node);
        co_return body.name;
    }
    Coro<std::string> new_body(const Node& node) { return run_body("b" + std::to_string(++bodies_), node); }

    Coro<> run_all(Body& body, const Node& sequence) {
        for (const Node& statement : sequence.nodes) {
            auto outcome = co_await coil::try_await(execute(body, statement));
            log(body, statement.id, text_of(outcome));
            std::exception_ptr error = outcome.exception();
            if (error && !(tolerant_ && is_tolerable(error))) std::rethrow_exception(error);
        }
    }
    static bool is_tolerable(const std::exception_ptr& error) {
        try {
            std::rethrow_exception(error);
        } catch (const coil::CancelledError&) {
            return false;
        } catch (const AppError&) {
            return false;
        } catch (...) {
            return true;
        }
    }

    std::optional<Milliseconds> limit(long number) {
        return number < 0 ? std::nullopt : std::optional(Milliseconds(number));
    }
    std::vector<std::pair<long, coil::Task<std::string>>> tasks_in(const std::vector<long>& slots,
                                                                   std::size_t from) {
        std::vector<std::pair<long, coil::Task<std::string>>> found;
        for (std::size_t i = from; i < slots.size(); ++i) {
            if (auto task = slots_.find(slots[i]); task != slots_.end()) found.emplace_back(*task);
        }
        return found;
    }

    using Result = Coro<std::string>;
    using Method = Result (World::*)(Body&, const Node&);

    Result execute(Body& body, const Node& statement) {
        static const std::map<std::string_view, Method> methods{
            {"sleep", &World::sleep},
            {"raise", &World::raise},
            {"try", &World::try_},
            {"repeat", &World::repeat},
            {"lock", &World::lock},
            {"acquire", &World::acquire},
            {"release", &World::release},
            {"semaphore", &World::semaphore},
            {"semaphore_release", &World::semaphore_release},
            {"event_wait", &World::event_wait},
            {"event_set", &World::event_set},
            {"event_clear", &World::event_clear},
            {"condition", &World::condition},
            {"condition_wait", &World::condition_wait},
            {"condition_wait_for", &World::condition_wait_for},
            {"notify", &World::notify},
            {"notify_all", &World::notify_all},
            {"count", &World::count},
            {"barrier_wait", &World::barrier_wait},
            {"barrier_reset", &World::barrier_reset},
            {"barrier_abort", &World::barrier_abort},
            {"put", &World::put},
            {"get", &World::get},
            {"put_nowait", &World::put_nowait},
            {"get_nowait", &World::get_nowait},
            {"task_done", &World::task_done},
            {"join", &World::join},
            {"shutdown", &World::shutdown},
            {"timeout", &World::timeout},
            {"reschedule", &World::reschedule},
            {"group", &World::group},
            {"group_spawn", &World::group_spawn},
            {"spawn", &World::spawn},
            {"await", &World::await},
            {"cancel", &World::cancel},
            {"cancel_in_turns", &World::cancel_in_turns},
            {"cancel_later", &World::cancel_later},
            {"cancel_self", &World::cancel_self},
            {"uncancel", &World::uncancel},
            {"gather", &World::gather},
            {"gather_outcomes", &World::gather_outcomes},
            {"wait", &World::wait},
            {"wait_for", &World::wait_for},
            {"shield", &World::shield},
            {"as_completed", &World::as_completed},
        };
        auto method = methods.find(statement.op);
        if (method == methods.end()) throw std::runtime_error("no operation '" + statement.op + "'");
        return (this->*method->second)(body, statement);
    }

    // ---- control

    Result sleep(Body&, const Node& node) {
        co_await coil::sleep(Milliseconds(node.numbers[0]));
        co_return "slept";
    }
    Result raise(Body&, const Node& node) {
        throw AppError(node.numbers[0]);
        co_return "";
    }
    /// (try what swallow (body) (handler) (finally)): what is caught: 0 errors, 1 cancellations, 2 both.
    Result try_(Body& body, const Node& node) {
        auto outcome = co_await coil::try_await(run_all(body, node.nodes[0]));
        std::exception_ptr error = outcome.exception();
        bool caught = error && (node.numbers[0] == 2 || (node.numbers[0] == 1) == outcome.cancelled());
        if (caught) {
            log(body, node.id, "caught " + name_of(error));
            auto handled = co_await coil::try_await(run_all(body, node.nodes[1]));
            if (handled.exception()) {
                error = handled.exception();
            } else if (node.numbers[1]) {
                error = nullptr;
            }
        }
        co_await run_all(body, node.nodes[2]);
        if (error) std::rethrow_exception(error);
        co_return caught ? "handled" : "tried";
    }
    Result repeat(Body& body, const Node& node) {
        for (long i = 0; i < node.numbers[0]; ++i) co_await run_all(body, node.nodes[0]);
        co_return "repeated";
    }

    // ---- locks

    Result lock(Body& body, const Node& node) {
        co_await coil::async_with(*locks_.at(index(node)), [&]() -> Coro<> {
            log(body, node.id, "entered");
            co_await run_all(body, node.nodes[0]);
        });
        co_return "left";
    }
    Result acquire(Body&, const Node& node) {
        co_await locks_.at(index(node))->acquire();
        co_return "acquired";
    }
    Result release(Body&, const Node& node) {
        locks_.at(index(node))->release();
        co_return "released";
    }
    Result semaphore(Body& body, const Node& node) {
        co_await coil::async_with(*semaphores_.at(index(node)), [&]() -> Coro<> {
            log(body, node.id, "entered");
            co_await run_all(body, node.nodes[0]);
        });
        co_return "left";
    }
    Result semaphore_release(Body&, const Node& node) {
        semaphores_.at(index(node))->release();
        co_return yes_no(semaphores_.at(index(node))->locked());
    }
    Result event_wait(Body&, const Node& node) {
        co_await events_.at(index(node))->wait();
        co_return "set";
    }
    Result event_set(Body&, const Node& node) {
        events_.at(index(node))->set();
        co_return "ok";
    }
    Result event_clear(Body&, const Node& node) {
        events_.at(index(node))->clear();
        co_return "ok";
    }
    Result condition(Body& body, const Node& node) {
        co_await coil::async_with(*conditions_.at(index(node)), [&]() -> Coro<> {
            log(body, node.id, "entered");
            co_await run_all(body, node.nodes[0]);
        });
        co_return "left";
    }
    Result condition_wait(Body&, const Node& node) {
        co_return yes_no(co_await conditions_.at(index(node))->wait());
    }
    /// (condition_wait_for condition counter least)
    Result condition_wait_for(Body&, const Node& node) {
        long& counter = counters_[node.numbers[1]];
        co_await conditions_.at(index(node))->wait_for([&] { return counter >= node.numbers[2]; });
        co_return std::to_string(counter);
    }
    Result notify(Body&, const Node& node) {
        conditions_.at(index(node))->notify(static_cast<std::size_t>(node.numbers[1]));
        co_return "ok";
    }
    Result notify_all(Body&, const Node& node) {
        conditions_.at(index(node))->notify_all();
        co_return "ok";
    }
    Result count(Body&, const Node& node) { co_return std::to_string(++counters_[node.numbers[0]]); }
    Result barrier_wait(Body&, const Node& node) {
        co_return std::to_string(co_await barriers_.at(index(node))->wait());
    }
    Result barrier_reset(Body&, const Node& node) {
        co_await barriers_.at(index(node))->reset();
        co_return std::to_string(barriers_.at(index(node))->n_waiting());
    }
    Result barrier_abort(Body&, const Node& node) {
        co_await barriers_.at(index(node))->abort();
        co_return yes_no(barriers_.at(index(node))->broken());
    }

    // ---- queues

    template <class F>
    auto with_queue(const Node& node, F f) {
        return std::visit([&](auto& queue) { return f(*queue); }, queues_.at(index(node)));
    }
    Result put(Body&, const Node& node) {
        co_await with_queue(node, [&](auto& queue) { return queue.put(node.numbers[1]); });
        co_return "put";
    }
    Result get(Body&, const Node& node) {
        co_return std::to_string(co_await with_queue(node, [](auto& queue) { return queue.get(); }));
    }
    Result put_nowait(Body&, const Node& node) {
        with_queue(node, [&](auto& queue) { queue.put_nowait(node.numbers[1]); });
        co_return "put";
    }
    Result get_nowait(Body&, const Node& node) {
        co_return std::to_string(with_queue(node, [](auto& queue) { return queue.get_nowait(); }));
    }
    Result task_done(Body&, const Node& node) {
        with_queue(node, [](auto& queue) { queue.task_done(); });
        co_return "ok";
    }
    Result join(Body&, const Node& node) {
        co_await with_queue(node, [](auto& queue) -> Coro<bool> { return queue.join(); });
        co_return "joined";
    }
    Result shutdown(Body&, const Node& node) {
        with_queue(node, [&](auto& queue) { queue.shutdown(node.numbers[1] != 0); });
        co_return "ok";
    }

    // ---- time-outs and groups

    Result timeout(Body& body, const Node& node) {
        bool expired = false;
        auto block = [&](coil::Timeout& scope) -> Coro<> {
            Pushed pushed(body.timeouts, scope);
            auto outcome = co_await coil::try_await(run_all(body, node.nodes[0]));
            expired = scope.expired();
            if (outcome.exception()) std::rethrow_exception(outcome.exception());
        };
        auto outcome =
            co_await coil::try_await(coil::async_with(coil::timeout(limit(node.numbers[0])), block));
        if (outcome.has_value()) co_return expired ? "in time, expired" : "in time";
        if (name_of(outcome.exception()) != "TimeoutError") std::rethrow_exception(outcome.exception());
        co_return "timed out";
    }
    /// Of the innermost time-out: by so much from now; negative: no limit.
    Result reschedule(Body& body, const Node& node) {
        if (body.timeouts.empty()) co_return "none";
        std::optional<coil::TimePoint> when;
        if (node.numbers[0] >= 0) when = coil::get_running_loop().time() + Milliseconds(node.numbers[0]);
        body.timeouts.back()->reschedule(when);
        co_return "ok";
    }
    Result group(Body& body, const Node& node) {
        auto block = [&](coil::TaskGroup& group) -> Coro<> {
            Pushed pushed(body.groups, group);
            co_await run_all(body, node.nodes[0]);
        };
        auto outcome = co_await coil::try_await(coil::async_with(coil::TaskGroup(), block));
        if (outcome.has_value()) co_return "done";
        std::string name = name_of(outcome.exception());
        if (!name.starts_with("Group")) std::rethrow_exception(outcome.exception());
        co_return name;
    }
    Result group_spawn(Body& body, const Node& node) {
        if (body.groups.empty()) co_return "none";
        body.groups.back()->create_task(new_body(node.nodes[0]));
        co_return "spawned b" + std::to_string(bodies_);
    }

    // ---- tasks

    Result spawn(Body&, const Node& node) {
        slots_.insert_or_assign(node.numbers[0], coil::create_task(new_body(node.nodes[0])));
        co_return "spawned b" + std::to_string(bodies_);
    }
    Result await(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 0);
        if (tasks.empty()) co_return "none";
        co_return co_await tasks[0].second;
    }
    Result cancel(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 0);
        if (tasks.empty()) co_return "none";
        co_return yes_no(tasks[0].second.cancel());
    }
    /// (cancel_in_turns turns slot)
    Result cancel_in_turns(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 1);
        if (tasks.empty()) co_return "none";
        tick(node.numbers[0], tasks[0].second);
        co_return "ok";
    }
    static void tick(long turns, coil::Task<std::string> task) {
        if (turns == 0) {
            task.cancel();
        } else {
            coil::get_running_loop().call_soon(&World::tick, turns - 1, task);
        }
    }
    /// (cancel_later milliseconds slot)
    Result cancel_later(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 1);
        if (tasks.empty()) co_return "none";
        coil::get_running_loop().call_later(Milliseconds(node.numbers[0]),
                                            [task = tasks[0].second]() mutable { task.cancel(); });
        co_return "ok";
    }
    Result cancel_self(Body&, const Node&) { co_return yes_no(coil::current_task().cancel()); }
    Result uncancel(Body&, const Node&) { co_return std::to_string(coil::current_task().uncancel()); }

    // ---- several at once

    std::vector<Result> bodies_of(const Node& node) {
        std::vector<Result> bodies;
        for (const Node& body : node.nodes) bodies.push_back(new_body(body));
        return bodies;
    }
    Result gather(Body&, const Node& node) {
        auto names = co_await coil::gather(bodies_of(node));
        co_return fmt::format("{}", fmt::join(names, " "));
    }
    Result gather_outcomes(Body&, const Node& node) {
        auto outcomes = co_await coil::gather(coil::return_exceptions, bodies_of(node));
        std::vector<std::string> texts;
        for (const auto& outcome : outcomes) texts.push_back(text_of(outcome));
        co_return fmt::format("{}", fmt::join(texts, " "));
    }
    /// (wait mode limit slots…)
    Result wait(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 2);
        if (tasks.empty()) co_return "none";
        std::vector<coil::Task<std::string>> waited;
        for (auto& [slot, task] : tasks) waited.push_back(task);
        co_await coil::wait(waited, {.timeout = limit(node.numbers[1]),
                                     .return_when = static_cast<coil::ReturnWhen>(node.numbers[0])});
        std::vector<std::string> texts;
        for (auto& [slot, task] : tasks) texts.push_back(std::to_string(slot) + "=" + yes_no(task.done()));
        co_return fmt::format("{}", fmt::join(texts, " "));
    }
    Result wait_for(Body&, const Node& node) {
        co_return co_await coil::wait_for(new_body(node.nodes[0]), limit(node.numbers[0]));
    }
    Result shield(Body&, const Node& node) {
        auto tasks = tasks_in(node.numbers, 0);
        if (tasks.empty()) co_return "none";
        co_return co_await coil::shield(tasks[0].second);
    }
    /// (as_completed limit (body)…)
    Result as_completed(Body& body, const Node& node) {
        std::vector<coil::Task<std::string>> tasks;
        for (Result& coro : bodies_of(node)) tasks.push_back(coil::create_task(std::move(coro)));
        for (auto& next : coil::as_completed(tasks, {.timeout = limit(node.numbers[0])})) {
            auto outcome = co_await coil::try_await(next);
            log(body, node.id, text_of(outcome));
            // A cancellation of this task, or of the one that was waited for: as asyncio, it cannot tell.
            if (outcome.cancelled()) std::rethrow_exception(outcome.exception());
        }
        co_return "completed";
    }

    static std::size_t index(const Node& node) { return static_cast<std::size_t>(node.numbers[0]); }

    bool tolerant_;
    std::vector<std::unique_ptr<coil::Lock>> locks_;
    std::vector<std::unique_ptr<coil::Semaphore>> semaphores_;
    std::vector<std::unique_ptr<coil::Event>> events_;
    std::vector<std::unique_ptr<coil::Condition>> conditions_;
    std::vector<std::unique_ptr<coil::Barrier>> barriers_;
    std::vector<AnyQueue> queues_;
    std::map<long, coil::Task<std::string>> slots_;
    std::map<long, long> counters_;
    long bodies_ = 0;
    coil::TimePoint start_ = coil::get_running_loop().time();
    bool logging_ = true;
};

void run_program(const Node& program) {
    std::unique_ptr<World> world;  // outlives the loop and its tasks
    auto loop = coil::testing::virtual_loop();
    // Whose error nobody looks at is CPython's garbage collector's affair; it is not compared.
    loop->set_exception_handler([](coil::EventLoop&, const coil::ExceptionContext&) {});
    auto main = [&]() -> Coro<> {
        world = std::make_unique<World>(program.numbers.at(0) != 0, program.nodes.at(0));
        co_await world->run_main(program.nodes.at(1));
    };
    try {
        loop->run_until_complete(main());
    } catch (const coil::CancelledError&) {
        fmt::print("main cancelled\n");
    } catch (const coil::testing::DeadlockError&) {
        fmt::print("deadlock\n");
    } catch (const std::exception& e) {
        fmt::print("failed: {}\n", e.what());
    }
    if (world) world->stop_logging();
    loop->close();
}

}  // namespace

int main() {
    coil::set_log_handler([](coil::LogLevel, std::string_view) {});
    std::string line;
    while (std::getline(std::cin, line)) {
        run_program(Parser(line).parse());
        fmt::print("end\n");
        std::fflush(stdout);
    }
}
