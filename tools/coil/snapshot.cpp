#include "tools/coil/snapshot.hpp"

#include <cxxabi.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "base/inspection.hpp"
#include "tools/coil/descriptors.hpp"

namespace coil::tools {

namespace {

using detail::InspectionKind;
using detail::InspectionRoot;
using detail::InspectionRow;

/// A row of the program's, with its texts.
struct Row {
    std::string type;
    std::string label;
    InspectionKind kind;
    detail::InspectionPath path;
    Address function;
};

std::string demangle(const char* name) {
    if (*name == '*') ++name;  // GCC's mark of a type without linkage
    char* text = abi::__cxa_demangle(name, nullptr, nullptr, nullptr);
    if (!text) return name;
    std::string result = text;
    std::free(text);  // what __cxa_demangle gives
    return result;
}

/// A name, and not what happens to be where one was: no control characters.
std::string checked_text(std::string text) {
    if (std::ranges::any_of(text, [](unsigned char c) { return c < ' ' && c != '\t' && c != '\n'; }))
        throw Unreadable("a text has control characters");
    return text;
}

class Reader {
  public:
    /// `live`: of a process, so that ages and deadlines have a meaning.
    Reader(const Memory& memory, bool live) : memory_(memory), live_(live) {
        auto roots = memory.sections(COIL_INSPECTION_ROOT_SECTION);
        if (roots.empty())
            throw Failure(
                fmt::format("{} is no program with coil (or one with an older coil)", memory.describe()));
        for (const Memory::Section& section : roots) {
            auto root = memory.get<InspectionRoot>(section.address);
            if (std::string_view(root.magic, sizeof root.magic) !=
                std::string_view(InspectionRoot::MAGIC, sizeof InspectionRoot::MAGIC))
                throw Failure(fmt::format("{} has a section '{}' of something else", memory.describe(),
                                          COIL_INSPECTION_ROOT_SECTION));
            if (root.version != InspectionRoot::VERSION || root.size != sizeof root ||
                root.row_size != sizeof(InspectionRow))
                throw Failure(
                    fmt::format("{} is built with a coil whose tasks are laid out as of version {}; this "
                                "program knows version {}",
                                memory.describe(), root.version, InspectionRoot::VERSION));
            roots_.push_back(root);
        }
        for (const Memory::Section& section : memory.sections(COIL_INSPECTION_ROWS_SECTION))
            read_rows(section);
    }

    Snapshot read() {
        Snapshot snapshot;
        snapshot.of = memory_.describe();
        for (const InspectionRoot& root : roots_) {
            root_ = &root;
            auto first = reinterpret_cast<Address>(root.first_loop);
            std::unordered_set<Address> seen;
            for (Address loop = memory_.pointer(first); loop; loop = memory_.pointer(loop + root.loop_next)) {
                if (!seen.insert(loop).second) throw Unreadable("the list of loops is a circle");
                snapshot.loops.push_back(read_loop(loop));
            }
        }
        std::ranges::reverse(snapshot.loops);  // the oldest first
        return snapshot;
    }

  private:
    static constexpr std::size_t MOST_TASKS = 50'000'000;

    void read_rows(const Memory::Section& section) {
        std::size_t count = section.size / sizeof(InspectionRow);
        for (std::size_t i = 0; i < count; ++i) {
            auto row = memory_.get<InspectionRow>(section.address + i * sizeof(InspectionRow));
            auto text = [&](const char* at) {
                return at ? memory_.text(reinterpret_cast<Address>(at)) : std::string();
            };
            rows_.push_back({text(row.type), text(row.label), row.kind, row.path,
                             reinterpret_cast<Address>(row.function)});
        }
    }

    // ---- objects

    /// The demangled name of the object's class. Unreadable where there is none: that is not remembered.
    const std::string& type_of(Address object) {
        Address table = memory_.pointer(object);
        auto found = types_.find(table);
        if (found == types_.end()) {
            Address info = memory_.pointer(table - sizeof(Address));
            Address name = memory_.pointer(info + sizeof(Address));
            found = types_.emplace(table, demangle(checked_text(memory_.text(name)).c_str())).first;
        }
        return found->second;
    }

    /// Where the path ends; 0 if a pointer on it is null.
    Address follow(Address object, const detail::InspectionPath& path) {
        if (path.length() == 0) return object;
        for (std::size_t i = 0; i + 1 < path.length(); ++i) {
            object = memory_.pointer(object + path[i]);
            if (object == 0) return 0;
        }
        return object + path[path.length() - 1];
    }

    std::string string_at(Address address) {
        // libstdc++: the characters' address, the size.
        auto size = memory_.get<std::size_t>(address + sizeof(Address));
        return memory_.text(memory_.pointer(address), size);
    }

    template <class Call>
    void rows_for(const std::string& type, Call&& call) {
        for (const Row& row : rows_) {
            if (!row.type.empty() && type.starts_with(row.type)) call(row);
        }
    }

    // ---- tasks

    LoopView read_loop(Address loop) {
        LoopView view;
        view.id = loop;
        view.thread = memory_.get<std::int32_t>(loop + root_->loop_thread);
        view.running = view.thread != 0 && memory_.get<bool>(loop + root_->loop_running);
        timers_ = loop + root_->loop_timers;

        Address head = loop + root_->loop_tasks;
        std::vector<Address> tasks;
        Address previous = head;
        for (Address node = memory_.pointer(head + root_->list_next); node != head;
             node = memory_.pointer(node + root_->list_next)) {
            if (memory_.pointer(node + root_->list_prev) != previous || tasks.size() == MOST_TASKS)
                throw Unreadable("the list of tasks is being changed");
            tasks.push_back(node - root_->task_node);
            previous = node;
        }
        tasks_ = std::unordered_set<Address>(tasks.begin(), tasks.end());

        std::unordered_set<Address> ready = read_ready(loop);
        for (Address task : tasks) view.tasks.push_back(read_task(task, ready.contains(task)));
        std::unordered_map<Address, std::size_t> index;
        for (std::size_t i = 0; i < tasks.size(); ++i) index.emplace(tasks[i], i);
        for (Address task : tasks) {
            for (Address waiter : awaited_by(task)) {
                if (tasks_.contains(waiter)) add_unique(view.tasks[index[task]].awaited_by, waiter);
            }
            // A shield's outer future knows the inner one; the inner one has only a callback.
            if (Address inner = shielded_by(task); tasks_.contains(inner))
                add_unique(view.tasks[index[inner]].awaited_by, task);
        }
        return view;
    }

    static void add_unique(std::vector<Address>& list, Address item) {
        if (std::ranges::find(list, item) == list.end()) list.push_back(item);
    }

    /// The tasks that go on in the next turns.
    std::unordered_set<Address> read_ready(Address loop) {
        std::unordered_set<Address> ready;
        std::unordered_set<Address> seen;
        for (Address node = memory_.pointer(loop + root_->loop_ready); node;
             node = memory_.pointer(node + root_->runnable_next)) {
            if (!seen.insert(node).second) throw Unreadable("the queue of callbacks is a circle");
            if (tasks_.contains(node - root_->task_runnable)) {
                ready.insert(node - root_->task_runnable);
            } else if (const Row* row = row_of_runnable(node); row && row->kind == InspectionKind::TASK) {
                if (Address task = follow_to_pointer(node, *row)) ready.insert(task);
            }
        }
        return ready;
    }

    const Row* row_of_runnable(Address node) {
        Address function = memory_.pointer(node + root_->runnable_function);
        auto found = std::ranges::find_if(
            rows_, [&](const Row& row) { return row.type.empty() && row.function == function; });
        return found == rows_.end() ? nullptr : &*found;
    }

    Address follow_to_pointer(Address object, const Row& row) {
        Address place = follow(object, row.path);
        return place ? memory_.pointer(place) : 0;
    }

    TaskView read_task(Address task, bool ready) {
        if (!type_of(task).starts_with("coil::detail::TaskState<"))
            throw Unreadable("the list of tasks has something else in it");
        TaskView view;
        view.id = task;
        view.name = task_name(task);
        Address waiter = memory_.pointer(task + root_->task_waiting_on);
        view.state = ready ? "ready" : waiter ? "waiting" : "running";
        if (live_) view.age = age_of(memory_.get<std::uint32_t>(task + root_->task_created));
        view.stack = read_stack(memory_.pointer(task + root_->task_innermost));
        Frame made = frame_at(memory_.pointer(task + root_->task_created_at));
        if (made.line != 0) view.created_at = std::move(made);
        if (waiter) {
            view.waits_for = describe_wait(waiter);
            rows_for(type_of(waiter), [&](const Row& row) {
                if (row.kind == InspectionKind::DESCRIPTOR) {
                    if (Address place = follow(waiter, row.path)) view.descriptor = memory_.get<int>(place);
                }
                if (row.kind != InspectionKind::TASK) return;
                if (Address holder = follow_to_pointer(waiter, row); tasks_.contains(holder))
                    view.held_up_by.push_back(holder);
            });
        }
        return view;
    }

    std::string task_name(Address task) {
        Address bits = memory_.pointer(task + root_->task_name);
        return bits & 1 ? fmt::format("Task-{}", bits >> 1) : string_at(bits);
    }

    static double age_of(std::uint32_t created) {
        timespec now;
        ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        auto milliseconds = static_cast<std::uint32_t>(now.tv_sec) * 1000 +
                            static_cast<std::uint32_t>(now.tv_nsec / 1'000'000);
        return (milliseconds - created) / 1e3;
    }

    std::vector<Frame> read_stack(Address promise) {
        constexpr std::size_t DEEPEST = 100'000;
        std::vector<Frame> stack;
        while (promise) {
            if (stack.size() == DEEPEST) throw Unreadable("a stack does not end");
            stack.push_back(frame_at(memory_.pointer(promise + root_->promise_where)));
            Address awaiter = memory_.pointer(promise + root_->promise_awaiter);
            promise = awaiter ? memory_.pointer(awaiter + root_->awaiter_parent) : 0;
        }
        return stack;
    }

    /// What a std::source_location points to.
    Frame frame_at(Address location) {
        if (location == 0) return {};
        struct Location {
            Address file;
            Address function;
            unsigned line;
            unsigned column;
        };
        auto found = frames_.find(location);
        if (found == frames_.end()) {
            auto where = memory_.get<Location>(location);
            Frame frame{checked_text(memory_.text(where.function)), checked_text(memory_.text(where.file)),
                        where.line};
            found = frames_.emplace(location, std::move(frame)).first;
        }
        return found->second;
    }

    std::string describe_wait(Address waiter) {
        const std::string& type = type_of(waiter);
        std::string text;
        rows_for(type, [&](const Row& row) {
            if (row.kind == InspectionKind::FUTURE) {
                text = describe_future(follow_to_pointer(waiter, row));
                return;
            }
            std::string fact = describe_fact(waiter, row);
            if (!fact.empty()) text += (text.empty() ? "" : ", ") + fact;
        });
        return text.empty() ? type : text;
    }

    std::string describe_future(Address future) {
        if (future == 0) return {};
        if (tasks_.contains(future)) return fmt::format("Task '{}'", task_name(future));
        const std::string& type = type_of(future);
        if (type.starts_with("coil::detail::TaskState<"))
            return fmt::format("Task '{}' of another loop", task_name(future));
        if (type.starts_with("coil::detail::Gather")) return "gather()";
        if (Address inner = shielded(future)) return fmt::format("shield({})", describe_future(inner));
        return fmt::format("Future {:#x}", future);
    }

    std::string describe_fact(Address object, const Row& row) {
        if (row.kind == InspectionKind::NAME) return row.label;
        Address place = follow(object, row.path);
        if (place == 0) return {};
        auto labelled = [&](std::string value) { return fmt::format("{} {}", row.label, value); };
        switch (row.kind) {
            case InspectionKind::TEXT:
                return checked_text(memory_.text(memory_.pointer(place)));
            case InspectionKind::STRING:
                return checked_text(string_at(place));
            case InspectionKind::COUNT:
                return fmt::format("{} {}", memory_.get<std::size_t>(place), row.label);
            case InspectionKind::SECONDS:
                return labelled(
                    fmt::format("{}s", static_cast<double>(memory_.get<std::int64_t>(place)) / 1e9));
            case InspectionKind::TIMER:
                return describe_timer(memory_.get<std::uint32_t>(place), row.label);
            case InspectionKind::DESCRIPTOR:
                return labelled(fmt::format("{}", memory_.get<int>(place)));
            case InspectionKind::TASK: {
                Address task = memory_.pointer(place);
                if (task == 0) return {};
                return labelled(tasks_.contains(task) ? fmt::format("Task '{}'", task_name(task))
                                                      : std::string("a task that has ended"));
            }
            case InspectionKind::NAME:
            case InspectionKind::FUTURE:
            case InspectionKind::CALLABLE:
                break;
        }
        return {};
    }

    std::string describe_timer(std::uint32_t index, const std::string& label) {
        Address begin = memory_.pointer(timers_);
        Address end = memory_.pointer(timers_ + sizeof(Address));
        Address entry = begin + Address{index} * root_->timer_entry_size;
        if (!live_ || entry >= end) return {};  // it has fired
        auto when = memory_.get<std::int64_t>(entry + root_->timer_entry_when);
        timespec now;
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        double left = static_cast<double>(when) / 1e9 - static_cast<double>(now.tv_sec) -
                      static_cast<double>(now.tv_nsec) / 1e9;
        return fmt::format("{} {:.3f}s", label, left);
    }

    // ---- who waits for whom

    /// The tasks that a future makes go on when it is done, through futures between them.
    std::vector<Address> awaited_by(Address future) {
        std::vector<Address> tasks;
        std::vector<Address> left{future};
        std::unordered_set<Address> seen;
        while (!left.empty()) {
            Address next = left.back();
            left.pop_back();
            if (!seen.insert(next).second) continue;
            each_waiter(next, [&](Address node, const Row& row) {
                if (row.kind == InspectionKind::TASK) {
                    if (Address task = follow_to_pointer(node, row)) tasks.push_back(task);
                } else if (row.kind == InspectionKind::FUTURE) {
                    if (Address outer = follow_to_pointer(node, row)) left.push_back(outer);
                }
            });
        }
        return tasks;
    }

    template <class Call>
    void each_waiter(Address future, Call&& call) {
        std::unordered_set<Address> seen;
        for (Address node = memory_.pointer(future + root_->future_first_waiter); node;
             node = memory_.pointer(node + root_->runnable_next)) {
            if (!seen.insert(node).second) throw Unreadable("a future's list of waiters is a circle");
            if (const Row* row = row_of_runnable(node)) call(node, *row);
        }
    }

    /// The inner future of shield()'s; 0 for another one.
    Address shielded(Address future) {
        Address inner = 0;
        each_waiter(future, [&](Address node, const Row& row) {
            if (row.kind != InspectionKind::CALLABLE) return;
            Address callable = follow_to_pointer(node, row);
            if (callable == 0) return;
            rows_for(type_of(callable), [&](const Row& of_callable) {
                if (of_callable.kind == InspectionKind::FUTURE)
                    inner = follow_to_pointer(callable, of_callable);
            });
        });
        return inner;
    }

    /// The task that this one waits for through shield(); 0 if there is none.
    Address shielded_by(Address task) {
        Address waiter = memory_.pointer(task + root_->task_waiting_on);
        if (waiter == 0) return 0;
        Address inner = 0;
        rows_for(type_of(waiter), [&](const Row& row) {
            if (row.kind != InspectionKind::FUTURE) return;
            Address future = follow_to_pointer(waiter, row);
            if (future && !tasks_.contains(future)) inner = shielded(future);
        });
        return inner;
    }

    const Memory& memory_;
    bool live_;
    std::vector<InspectionRoot> roots_;
    const InspectionRoot* root_ = nullptr;
    std::vector<Row> rows_;
    Address timers_ = 0;                 // of the loop that is being read
    std::unordered_set<Address> tasks_;  // the same
    std::unordered_map<Address, std::string> types_;
    std::unordered_map<Address, Frame> frames_;
};

Snapshot read_stopped(pid_t pid, Memory& memory, Reader& reader) {
    StoppedProcess stopped(pid);
    memory.forget();
    return reader.read();
}

/// While the process runs again: this can take its time.
void add_peers(pid_t pid, Snapshot& snapshot) {
    std::optional<Descriptors> descriptors;
    for (LoopView& loop : snapshot.loops) {
        for (TaskView& task : loop.tasks) {
            if (!task.descriptor) continue;
            if (!descriptors) descriptors.emplace(pid);
            std::string what = descriptors->describe(*task.descriptor);
            if (!what.empty()) task.waits_for += fmt::format(" ({})", what);
        }
    }
}

}  // namespace

Snapshot snapshot_of_process(pid_t pid) {
    auto memory = memory_of_process(pid);
    Reader reader(*memory, true);
    // It may be stopped in the middle of a change; then a moment later it is not.
    constexpr int ATTEMPTS = 50;
    for (int attempt = 1;; ++attempt) {
        try {
            Snapshot snapshot = read_stopped(pid, *memory, reader);
            add_peers(pid, snapshot);
            return snapshot;
        } catch (const Unreadable& e) {
            if (attempt == ATTEMPTS)
                throw Failure(fmt::format("{} cannot be read, it changes all the time: {}",
                                          memory->describe(), e.what()));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

Snapshot snapshot_of_core(const std::string& path) {
    auto memory = memory_of_core(path);
    return Reader(*memory, false).read();
}

std::vector<std::vector<const TaskView*>> deadlocks(const LoopView& loop) {
    std::unordered_map<Address, const TaskView*> tasks;
    std::unordered_map<const TaskView*, std::vector<const TaskView*>> waits;
    for (const TaskView& task : loop.tasks) tasks.emplace(task.id, &task);
    for (const TaskView& task : loop.tasks) {
        for (Address waiter : task.awaited_by) {
            if (auto found = tasks.find(waiter); found != tasks.end()) waits[found->second].push_back(&task);
        }
        for (Address holder : task.held_up_by) {
            if (auto found = tasks.find(holder); found != tasks.end()) waits[&task].push_back(found->second);
        }
    }

    // Depth first; a way back to a task of the present way closes a circle.
    enum class Visit { BEGUN, OVER };
    std::unordered_map<const TaskView*, Visit> visits;
    std::vector<std::vector<const TaskView*>> circles;
    struct Step {
        const TaskView* task;
        std::size_t next = 0;
    };
    for (const TaskView& first : loop.tasks) {
        if (visits.contains(&first)) continue;
        std::vector<Step> way{{&first}};
        visits[&first] = Visit::BEGUN;
        while (!way.empty()) {
            Step& step = way.back();
            const auto& targets = waits[step.task];
            if (step.next == targets.size()) {
                visits[step.task] = Visit::OVER;
                way.pop_back();
                continue;
            }
            const TaskView* target = targets[step.next++];
            auto [visit, is_new] = visits.emplace(target, Visit::BEGUN);
            if (is_new) {
                way.push_back({target});
            } else if (visit->second == Visit::BEGUN) {
                auto begin = std::ranges::find(way, target, &Step::task);
                auto& circle = circles.emplace_back();
                for (auto at = begin; at != way.end(); ++at) circle.push_back(at->task);
            }
        }
    }
    return circles;
}

namespace {

/// The name: what is between the space before it and its parameters' parenthesis, both outside of <> and ().
std::string_view name_of(std::string_view function) {
    std::size_t begin = 0;
    int depth = 0;
    for (std::size_t i = 0; i < function.size(); ++i) {
        char c = function[i];
        if (c == '(' && depth == 0 && i > begin && !function.substr(i).starts_with("(anonymous"))
            return function.substr(begin, i - begin);
        if (c == '<' || c == '(') ++depth;
        if (c == '>' || c == ')') --depth;
        if ((c == ' ' || c == '*' || c == '&') && depth == 0) begin = i + 1;
    }
    return function;
}

}  // namespace

bool is_coils_own(const Frame& frame) {
    std::string_view name = name_of(frame.function);
    return name.starts_with("coil::detail::") || name.starts_with("coil::(anonymous namespace)::") ||
           name.starts_with("coil::{anonymous}::");
}

std::string short_function(const std::string& function) {
    std::string_view name = name_of(function);
    for (std::string_view prefix : {"coil::", "detail::", "(anonymous namespace)::", "{anonymous}::"}) {
        if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
    }
    std::string text;
    int depth = 0;
    for (char c : name) {  // without template arguments
        if (c == '<') ++depth;
        if (depth == 0) text += c;
        if (c == '>') --depth;
    }
    return text;
}

}  // namespace coil::tools
