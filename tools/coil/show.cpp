#include "tools/coil/show.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

namespace coil::tools {

namespace {

constexpr const char* BOLD = "1";
constexpr const char* DIM = "2";
constexpr const char* YELLOW = "33";
constexpr const char* CYAN = "36";

std::string coloured(std::string text, const char* colour, const ShowOptions& options) {
    return options.colours && !text.empty() ? fmt::format("\x1b[{}m{}\x1b[0m", colour, text) : text;
}

/// A path as people look for it: its last part.
std::string file_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string place(const Frame& frame) { return fmt::format("{}:{}", file_name(frame.file), frame.line); }

/// Where it stands, as far as that is the program's own code.
std::string place_in_program(const TaskView& task) {
    if (task.stack.empty()) return {};
    auto own = std::ranges::find_if_not(task.stack, is_coils_own);
    return place(own == task.stack.end() ? task.stack.front() : *own);
}

std::string age(const TaskView& task) {
    if (!task.age) return "?";
    double seconds = *task.age;
    if (seconds < 60) return fmt::format("{:.1f}s", seconds);
    auto whole = static_cast<long>(seconds);
    if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
    if (whole < 86'400) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
    return fmt::format("{}d{:02}h", whole / 86'400, whole / 3600 % 24);
}

std::string loop_title(const LoopView& loop) {
    std::string thread = loop.running ? fmt::format("in thread {}", loop.thread) : "not running";
    return fmt::format("loop {:#x}, {}, {} task{}", loop.id, thread, loop.tasks.size(),
                       loop.tasks.size() == 1 ? "" : "s");
}

std::unordered_map<Address, const TaskView*> by_id(const LoopView& loop) {
    std::unordered_map<Address, const TaskView*> tasks;
    for (const TaskView& task : loop.tasks) tasks.emplace(task.id, &task);
    return tasks;
}

std::string deadlock_lines(const LoopView& loop, const ShowOptions& options) {
    std::string text;
    for (const auto& circle : deadlocks(loop)) {
        std::string line = "deadlock: ";
        for (const TaskView* task : circle) line += fmt::format("'{}' waits for ", task->name);
        line += fmt::format("'{}'", circle.front()->name);
        text += coloured(line, YELLOW, options) + "\n";
    }
    return text;
}

std::string shortened(std::string text, std::size_t most) {
    if (text.size() <= most) return text;
    return text.substr(0, most - 3) + "...";
}

// ---- the tree

class Tree {
  public:
    Tree(const LoopView& loop, const ShowOptions& options) : options_(options) {
        for (const TaskView& task : loop.tasks) {
            for (Address waiter : task.awaited_by) awaited_[waiter].push_back(&task);
        }
        for (const TaskView& task : loop.tasks) {
            if (task.awaited_by.empty()) roots_.push_back(&task);
        }
        add_roots();
        // Who waits in a circle is under no root.
        for (const TaskView& task : loop.tasks) {
            if (shown_.contains(task.id)) continue;
            roots_ = {&task};
            add_roots();
        }
    }
    const std::string& text() const noexcept { return text_; }

  private:
    void add_roots() {
        for (std::size_t i = 0; i < roots_.size(); ++i) add(*roots_[i], "", i + 1 == roots_.size());
    }

    void line(const std::string& prefix, bool last, const std::string& text) {
        text_ += prefix + (last ? "└── " : "├── ") + text + "\n";
    }

    void add(const TaskView& task, const std::string& prefix, bool last) {
        std::string title = fmt::format("(T) {}", coloured(task.name, BOLD, options_));
        if (!shown_.insert(task.id).second) return line(prefix, last, title + ", see above");
        title += fmt::format(
            " {}, {}", coloured(task.state, task.state == "running" ? YELLOW : DIM, options_), age(task));
        line(prefix, last, title);

        std::string inner = prefix + (last ? "    " : "│   ");
        for (auto frame = task.stack.rbegin(); frame != task.stack.rend(); ++frame) {
            line(inner, true,
                 fmt::format("{} {}", short_function(frame->function),
                             coloured(place(*frame), CYAN, options_)));
            inner += "    ";
        }
        auto found = awaited_.find(task.id);
        if (found == awaited_.end()) {
            if (!task.waits_for.empty()) line(inner, true, coloured(task.waits_for, DIM, options_));
            return;
        }
        for (std::size_t i = 0; i < found->second.size(); ++i)
            add(*found->second[i], inner, i + 1 == found->second.size());
    }

    const ShowOptions& options_;
    std::unordered_map<Address, std::vector<const TaskView*>> awaited_;  // by whom: what
    std::vector<const TaskView*> roots_;
    std::unordered_set<Address> shown_;
    std::string text_;
};

nlohmann::json json_of(const Frame& frame) {
    return {{"function", frame.function}, {"file", frame.file}, {"line", frame.line}};
}

nlohmann::json json_of(const TaskView& task) {
    nlohmann::json stack = nlohmann::json::array();
    for (const Frame& frame : task.stack) stack.push_back(json_of(frame));
    nlohmann::json json = {{"id", task.id},
                           {"name", task.name},
                           {"state", task.state},
                           {"age", nullptr},
                           {"stack", std::move(stack)},
                           {"created_at", nullptr},
                           {"waits_for", task.waits_for},
                           {"held_up_by", task.held_up_by},
                           {"awaited_by", task.awaited_by}};
    if (task.age) json["age"] = *task.age;
    if (task.created_at) json["created_at"] = json_of(*task.created_at);
    return json;
}

}  // namespace

std::string show_table(const Snapshot& snapshot, const ShowOptions& options) {
    constexpr std::size_t COLUMNS = 7;
    using Line = std::array<std::string, COLUMNS>;
    std::string text;
    for (const LoopView& loop : snapshot.loops) {
        text += loop_title(loop) + "\n";
        if (loop.tasks.empty()) continue;
        auto tasks = by_id(loop);
        std::vector<Line> lines{{"task", "state", "age", "at", "stack", "waiting for", "awaited by"}};
        for (const TaskView& task : loop.tasks) {
            std::string stack;
            for (const Frame& frame : task.stack)
                stack += (stack.empty() ? "" : " <- ") + short_function(frame.function);
            std::string waiters;
            for (Address waiter : task.awaited_by) {
                auto found = tasks.find(waiter);
                if (found != tasks.end()) waiters += (waiters.empty() ? "" : ", ") + found->second->name;
            }
            lines.push_back({shortened(task.name, 40), task.state, age(task), place_in_program(task),
                             shortened(stack, 70), shortened(task.waits_for, 70), shortened(waiters, 40)});
        }
        std::array<std::size_t, COLUMNS> widths{};
        for (const Line& line : lines) {
            for (std::size_t i = 0; i < COLUMNS; ++i) widths[i] = std::max(widths[i], line[i].size());
        }
        for (const Line& line : lines) {
            std::string row;
            for (std::size_t i = 0; i < COLUMNS; ++i) row += fmt::format("{:<{}}  ", line[i], widths[i]);
            row.erase(row.find_last_not_of(' ') + 1);
            bool title = &line == &lines.front();
            const char* colour = title ? BOLD : line[1] == "running" ? YELLOW : nullptr;
            text += (colour ? coloured(row, colour, options) : row) + "\n";
        }
        text += deadlock_lines(loop, options);
    }
    return text;
}

std::string show_tree(const Snapshot& snapshot, const ShowOptions& options) {
    std::string text;
    for (const LoopView& loop : snapshot.loops) {
        text += loop_title(loop) + "\n";
        text += Tree(loop, options).text();
        text += deadlock_lines(loop, options);
    }
    return text;
}

std::string show_json(const Snapshot& snapshot) {
    nlohmann::json loops = nlohmann::json::array();
    for (const LoopView& loop : snapshot.loops) {
        nlohmann::json tasks = nlohmann::json::array();
        for (const TaskView& task : loop.tasks) tasks.push_back(json_of(task));
        loops.push_back({{"id", loop.id},
                         {"thread", loop.thread},
                         {"running", loop.running},
                         {"tasks", std::move(tasks)}});
    }
    nlohmann::json all = {{"of", snapshot.of}, {"loops", std::move(loops)}};
    return all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace coil::tools
