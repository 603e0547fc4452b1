#include "tools/coil/trace_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

namespace coil::tools {

namespace {

using nlohmann::json;

constexpr std::string_view USAGE = "usage: coil trace summary FILE [--all] [--json]\n";
constexpr std::size_t ROWS = 20;

/// What cannot be summed up, as the user is to read it.
class NoTrace : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct Options {
    std::string file;
    bool all = false;
    bool json = false;
};

std::optional<Options> parse(std::span<const std::string_view> arguments) {
    Options options;
    for (std::string_view argument : arguments) {
        if (argument == "--all") {
            options.all = true;
        } else if (argument == "--json") {
            options.json = true;
        } else if (argument.starts_with("-") || argument.empty() || !options.file.empty()) {
            return {};
        } else {
            options.file = argument;
        }
    }
    if (options.file.empty()) return {};
    return options;
}

// All times are in nanoseconds: sums of so many fractions of microseconds would be inexact.
using Time = std::int64_t;

struct Row {
    bool task = false;
    std::string name;
    unsigned tasks = 0;  // that have this name
    std::uint64_t runs = 0;
    std::uint64_t slow = 0;
    Time run = 0;
    Time wait = 0;
    Time longest = -1;
    std::string from;
    std::string to;  // of the longest
};

void add(Row& sum, const Row& other) {
    sum.tasks += other.tasks;
    sum.runs += other.runs;
    sum.slow += other.slow;
    sum.run += other.run;
    sum.wait += other.wait;
    if (other.longest <= sum.longest) return;
    sum.longest = other.longest;
    sum.from = other.from;
    sum.to = other.to;
}

struct Summary {
    Time traced = 0;
    Time busy = 0;
    Time idle = 0;
    std::uint64_t slow = 0;
    bool cut_off = true;
    std::vector<Row> rows;
};

/// Reads a trace event by event, in the order of the file.
class Reader {
  public:
    void take(const json& event) {
        const auto& phase = event.at("ph").get_ref<const std::string&>();
        if (phase == "M") return take_metadata(event);
        if (!is_coils_) throw NoTrace("is not a trace of coil's");
        if (phase == "i" && event.at("name") == "end of trace") cut_off_ = false;
        Time began = time(event, "ts");
        Time lasted = phase == "X" ? time(event, "dur") : 0;
        traced_ = std::max(traced_, began + lasted);
        if (phase == "X") take_slice(event, began, lasted);
    }

    Summary summary() const {
        if (!is_coils_) throw NoTrace("is not a trace of coil's");
        Summary summary;
        summary.traced = traced_;
        summary.idle = idle_;
        summary.cut_off = cut_off_;
        std::map<std::pair<bool, std::string>, Row> by_name;
        auto merge = [&](const Row& row) {
            if (row.runs == 0 && row.wait == 0) return;
            Row& sum = by_name[{row.task, row.name}];
            sum.task = row.task;
            sum.name = row.name;
            add(sum, row);
        };
        for (const auto& [number, row] : tasks_) merge(row);
        for (const auto& [what, row] : callbacks_) merge(row);
        for (auto& [name, row] : by_name) {
            summary.busy += row.run;
            summary.slow += row.slow;
            summary.rows.push_back(std::move(row));
        }
        std::ranges::sort(summary.rows, {}, [](const Row& row) {
            return std::tuple(-row.run, -row.wait, row.task, std::string_view(row.name));
        });
        return summary;
    }

  private:
    static Time time(const json& event, const char* key) {
        return std::llround(event.at(key).get<double>() * 1000);
    }

    void take_metadata(const json& event) {
        const json& arguments = event.at("args");
        if (event.at("name") == "process_name" && arguments.at("name") == "coil") is_coils_ = true;
        if (event.at("name") == "thread_name") task(event).name = arguments.at("name").get<std::string>();
    }

    void take_slice(const json& event, Time began, Time lasted) {
        const auto& category = event.at("cat").get_ref<const std::string&>();
        if (category == "idle") {
            idle_ += lasted;
        } else if (category == "wait") {
            task(event).wait += lasted;
        } else if (category == "run") {
            take_run(task(event), event, began, lasted);
        } else if (category == "callback") {
            auto name = event.at("name").get<std::string>();
            Row& row = callbacks_[name];
            row.name = std::move(name);
            take_run(row, event, began, lasted);
        }
    }

    void take_run(Row& row, const json& event, Time began, Time lasted) {
        ++row.runs;
        row.run += lasted - inside(began, lasted);
        static const json nothing = json::object();
        auto found = event.find("args");
        const json& arguments = found == event.end() ? nothing : *found;
        if (arguments.value("slow", false)) ++row.slow;
        if (lasted <= row.longest) return;
        row.longest = lasted;
        row.from = arguments.value("from", "");
        row.to = arguments.value("to", "");
    }

    /// The time of the runs within this one, as of a task that was begun eagerly: it is theirs. They ended first, so they came first.
    Time inside(Time began, Time lasted) {
        Time others = 0;
        for (; !outermost_.empty() && outermost_.back().first >= began; outermost_.pop_back())
            others += outermost_.back().second;
        outermost_.emplace_back(began, lasted);
        return others;
    }

    Row& task(const json& event) {
        auto number = event.at("tid").get<std::int64_t>();
        Row& row = tasks_[number];
        row.task = true;
        row.tasks = 1;
        if (row.name.empty()) row.name = fmt::format("track {}", number);
        return row;
    }

    bool is_coils_ = false;
    bool cut_off_ = true;
    Time traced_ = 0;
    Time idle_ = 0;
    std::map<std::int64_t, Row> tasks_;
    std::map<std::string, Row> callbacks_;
    std::vector<std::pair<Time, Time>> outermost_;  // runs so far: when each began, and how long it was
};

/// One event a line, as coil writes it; the last line may be cut off.
Summary read(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw NoTrace(std::generic_category().message(errno));
    Reader reader;
    std::string line;
    bool broken = false;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        while (!line.empty() && (line.back() == ',' || line.back() == '\r')) line.pop_back();
        if (line.empty() || line == "[" || line == "]") continue;
        if (broken) throw NoTrace(fmt::format("is not a trace of coil's: line {} is no event", number - 1));
        try {
            reader.take(json::parse(line));
        } catch (const json::exception&) {
            broken = true;
        }
    }
    if (file.bad()) throw NoTrace(std::generic_category().message(errno));
    return reader.summary();
}

// ---- printing

double microseconds(Time time) { return static_cast<double>(time) / 1e3; }

std::string duration(Time time) {
    double us = microseconds(time);
    if (us < 1e3) return fmt::format("{:.1f} us", us);
    if (us < 1e6) return fmt::format("{:.1f} ms", us / 1e3);
    return fmt::format("{:.2f} s", us / 1e6);
}

double share(Time part, Time whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string title(const Row& row) {
    if (!row.task) return row.name;
    return row.tasks == 1 ? fmt::format("Task '{}'", row.name)
                          : fmt::format("{} tasks '{}'", row.tasks, row.name);
}

/// A name may have any characters in it; a row of the table is a line.
std::string one_line(std::string text) {
    std::ranges::replace_if(text, [](unsigned char c) { return c < ' '; }, ' ');
    return text;
}

void print_table(const Summary& summary, bool all) {
    std::size_t shown = all ? summary.rows.size() : std::min(ROWS, summary.rows.size());
    std::size_t place = 2;
    for (std::size_t i = 0; i < shown; ++i) place = std::max(place, summary.rows[i].from.size());
    fmt::print("{:>9}  {:>9}  {:>6}  {:>9}  {:{}}  {:>9}  {}\n", "runs", "time", "share", "longest", "at",
               place, "waited", "who");
    for (std::size_t i = 0; i < shown; ++i) {
        const Row& row = summary.rows[i];
        fmt::print("{:>9}  {:>9}  {:>5.1f}%  {:>9}  {:{}}  {:>9}  {}\n", row.runs, duration(row.run),
                   100 * share(row.run, summary.busy), row.longest < 0 ? "" : duration(row.longest), row.from,
                   place, row.task ? duration(row.wait) : "", one_line(title(row)));
    }
    if (shown < summary.rows.size()) {
        Time rest = 0;
        for (std::size_t i = shown; i < summary.rows.size(); ++i) rest += summary.rows[i].run;
        fmt::print("and {} more, {} together (--all shows them)\n", summary.rows.size() - shown,
                   duration(rest));
    }
    fmt::print("\ntraced {}: busy {} ({:.1f}%), idle in poll {} ({:.1f}%)\n", duration(summary.traced),
               duration(summary.busy), 100 * share(summary.busy, summary.traced), duration(summary.idle),
               100 * share(summary.idle, summary.traced));
    if (summary.slow > 0) fmt::print("slow: {} of the runs\n", summary.slow);
    if (summary.cut_off) fmt::print("The trace was cut off: its last events are missing.\n");
}

void print_json(const Summary& summary) {
    json rows = json::array();
    for (const Row& row : summary.rows) {
        json out{{"kind", row.task ? "task" : "callback"},
                 {"name", row.name},
                 {"runs", row.runs},
                 {"slow", row.slow},
                 {"run_us", microseconds(row.run)},
                 {"share", share(row.run, summary.busy)},
                 {"longest_us", microseconds(std::max<Time>(row.longest, 0))}};
        if (row.task) {
            out["tasks"] = row.tasks;
            out["wait_us"] = microseconds(row.wait);
            out["from"] = row.from;
            out["to"] = row.to;
        }
        rows.push_back(std::move(out));
    }
    json whole{{"traced_us", microseconds(summary.traced)},
               {"busy_us", microseconds(summary.busy)},
               {"idle_us", microseconds(summary.idle)},
               {"slow", summary.slow},
               {"cut_off", summary.cut_off},
               {"rows", std::move(rows)}};
    fmt::print("{}\n", whole.dump(2));
}

}  // namespace

int trace_summary(std::span<const std::string_view> arguments) {
    std::optional<Options> options = parse(arguments);
    if (!options) {
        fmt::print(stderr, "{}", USAGE);
        return 2;
    }
    try {
        Summary summary = read(options->file);
        if (options->json) {
            print_json(summary);
        } else {
            print_table(summary, options->all);
        }
    } catch (const NoTrace& error) {
        fmt::print(stderr, "coil trace summary: {}: {}\n", options->file, error.what());
        return 1;
    }
    return 0;
}

}  // namespace coil::tools
