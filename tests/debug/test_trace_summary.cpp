#include "tools/coil/trace_summary.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/run.hpp"
#include "support/text.hpp"
#include "support/trace_file.hpp"

using namespace coil;
using namespace support;

namespace {

struct Printed {
    int code;
    std::string out;
    std::string err;
};

Printed summary(std::vector<std::string> arguments) {
    std::vector<std::string_view> views(arguments.begin(), arguments.end());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    int code = tools::trace_summary(views);
    std::fflush(stdout);
    std::string out = ::testing::internal::GetCapturedStdout();
    return {code, out, ::testing::internal::GetCapturedStderr()};
}

nlohmann::json json_of(const TraceFile& file) {
    Printed printed = summary({file.path(), "--json"});
    EXPECT_EQ(printed.code, 0) << printed.err;
    return nlohmann::json::parse(printed.out);
}

nlohmann::json row(const nlohmann::json& whole, const std::string& name) {
    for (const auto& candidate : whole["rows"])
        if (candidate["name"] == name) return candidate;
    return {};
}

void write(const TraceFile& file, const std::string& events, bool ended = true) {
    std::ofstream out(file.path());
    out << "[\n"
        << R"({"name":"process_name","cat":"__metadata","ph":"M","pid":1,"tid":0,"args":{"name":"coil"}})"
        << events;
    if (ended)
        out << ",\n{\"name\":\"end of "
               "trace\",\"cat\":\"mark\",\"ph\":\"i\",\"pid\":1,\"tid\":0,\"ts\":10000.000,\"s\":\"t\"}\n]\n";
}

std::string slice(const std::string& name, const std::string& category, int track, double at, double lasts,
                  const std::string& arguments = "{}") {
    return fmt::format(
        R"(,{}{{"name":"{}","cat":"{}","ph":"X","pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{}}})", "\n",
        name, category, track, at, lasts, arguments);
}

std::string named(int track, const std::string& name) {
    return fmt::format(
        R"(,{}{{"name":"thread_name","cat":"__metadata","ph":"M","pid":1,"tid":{},"args":{{"name":"{}"}}}})",
        "\n", track, name);
}

}  // namespace

TEST(TraceSummary, adds_up_runs_and_waits_by_name) {
    TraceFile file;
    write(file, named(1, "a") + named(2, "b") + named(3, "a") +                                  //
                    slice("f", "run", 1, 0, 1000, R"({"from":"x.cpp:1","to":"x.cpp:2"})") +      //
                    slice("sleep", "wait", 1, 1000, 500) +                                       //
                    slice("f", "run", 1, 1500, 2000, R"({"from":"x.cpp:2","slow":true})") +      //
                    slice("g", "run", 2, 3500, 250.5, R"({"from":"y.cpp:7","to":"y.cpp:8"})") +  //
                    slice("f", "run", 3, 4000, 500, R"({"from":"x.cpp:1"})") +                   //
                    slice("poll", "idle", 0, 4500, 5000) +                                       //
                    slice("<Handle h>", "callback", 0, 9500, 249.5));
    auto whole = json_of(file);
    EXPECT_EQ(whole["traced_us"], 10000.0);
    EXPECT_EQ(whole["busy_us"], 4000.0);
    EXPECT_EQ(whole["idle_us"], 5000.0);
    EXPECT_EQ(whole["slow"], 1);
    EXPECT_EQ(whole["cut_off"], false);
    ASSERT_EQ(whole["rows"].size(), 3u);
    EXPECT_EQ(whole["rows"][0], (nlohmann::json{{"kind", "task"},
                                                {"name", "a"},
                                                {"tasks", 2},
                                                {"runs", 3},
                                                {"slow", 1},
                                                {"run_us", 3500.0},
                                                {"share", 0.875},
                                                {"longest_us", 2000.0},
                                                {"from", "x.cpp:2"},
                                                {"to", ""},
                                                {"wait_us", 500.0}}));
    EXPECT_EQ(whole["rows"][1]["name"], "b");
    EXPECT_EQ(whole["rows"][2]["kind"], "callback");

    Printed table = summary({file.path()});
    EXPECT_EQ(table.code, 0);
    EXPECT_EQ(table.out,
              "     runs       time   share    longest  at          waited  who\n"
              "        3     3.5 ms   87.5%     2.0 ms  x.cpp:2   500.0 us  2 tasks 'a'\n"
              "        1   250.5 us    6.3%   250.5 us  y.cpp:7     0.0 us  Task 'b'\n"
              "        1   249.5 us    6.2%   249.5 us                      <Handle h>\n"
              "\n"
              "traced 10.0 ms: busy 4.0 ms (40.0%), idle in poll 5.0 ms (50.0%)\n"
              "slow: 1 of the runs\n");
}

TEST(TraceSummary, a_run_within_another_counts_for_itself_only) {
    TraceFile file;
    write(file, named(1, "inner") + slice("f", "run", 1, 100, 10) + slice("f", "run", 1, 200, 300) +
                    slice("f", "run", 1, 600, 50) + slice("outer", "callback", 0, 200, 1000));
    auto whole = json_of(file);
    EXPECT_EQ(whole["busy_us"], 1010.0);
    EXPECT_EQ(row(whole, "outer")["run_us"], 650.0);
    EXPECT_EQ(row(whole, "outer")["longest_us"], 1000.0);
    EXPECT_EQ(row(whole, "inner")["run_us"], 360.0);
}

TEST(TraceSummary, shows_twenty_rows_or_all) {
    TraceFile file;
    std::string events;
    for (int i = 1; i <= 25; ++i) events += named(i, fmt::format("t{}", i)) + slice("f", "run", i, 10 * i, i);
    write(file, events);
    Printed some = summary({file.path()});
    EXPECT_TRUE(contains(some.out, "Task 't6'\n")) << some.out;
    EXPECT_FALSE(contains(some.out, "Task 't5'\n")) << some.out;
    EXPECT_TRUE(contains(some.out, "\nand 5 more, 15.0 us together (--all shows them)\n")) << some.out;
    Printed all = summary({"--all", file.path()});
    EXPECT_TRUE(contains(all.out, "Task 't1'\n")) << all.out;
    EXPECT_FALSE(contains(all.out, " more, ")) << all.out;
    EXPECT_EQ(json_of(file)["rows"].size(), 25u);
}

TEST(TraceSummary, reads_what_a_loop_wrote) {
    TraceFile file;
    auto body = [](std::string path) -> Coro<> {
        get_running_loop().start_tracing(path);
        auto work = []() -> Coro<> {
            co_await sleep(1s);
            spin(3ms);
            co_await sleep(1s);
        };
        co_await create_task(work(), {.name = "the \"busy\"\none"});
    };
    run_virtual(body(file.path()));
    auto whole = json_of(file);
    auto busy = row(whole, "the \"busy\"\none");
    EXPECT_EQ(busy["runs"], 3);
    EXPECT_GE(busy["longest_us"], 3000.0);
    EXPECT_TRUE(contains(busy["from"].get<std::string>(), "test_trace_summary.cpp:")) << busy;
    EXPECT_EQ(whole["rows"][0], busy);
    EXPECT_EQ(whole["cut_off"], false);
    double sum = 0;
    for (const auto& each : whole["rows"]) sum += each["run_us"].get<double>();
    EXPECT_NEAR(sum, whole["busy_us"].get<double>(), 0.01);
    EXPECT_LE(whole["busy_us"].get<double>() + whole["idle_us"].get<double>(),
              whole["traced_us"].get<double>());
    EXPECT_TRUE(contains(summary({file.path()}).out, "Task 'the \"busy\" one'\n"));
}

TEST(TraceSummary, reads_a_trace_that_was_cut_off_anywhere) {
    TraceFile file;
    write(file, named(1, "a") + slice("f", "run", 1, 0, 1000) + slice("f", "run", 1, 2000, 1000), false);
    std::string text = file.text();
    std::size_t second_run = text.rfind("\n{");
    for (std::size_t size :
         {text.size(), text.size() - 1, second_run + 5, second_run + 1, second_run, second_run - 1}) {
        std::ofstream(file.path()) << text.substr(0, size);
        auto whole = json_of(file);
        EXPECT_EQ(whole["cut_off"], true);
        EXPECT_EQ(row(whole, "a")["runs"], size == text.size() ? 2 : 1) << size;
    }
    EXPECT_TRUE(
        contains(summary({file.path()}).out, "\nThe trace was cut off: its last events are missing.\n"));
}

TEST(TraceSummary, says_what_is_wrong) {
    TraceFile file;
    auto error = [](const Printed& printed, int code) {
        EXPECT_EQ(printed.code, code);
        EXPECT_EQ(printed.out, "");
        return printed.err;
    };
    EXPECT_EQ(error(summary({file.path()}), 1),
              "coil trace summary: " + file.path() + ": No such file or directory\n");
    EXPECT_EQ(error(summary({"/"}), 1), "coil trace summary: /: Is a directory\n");
    auto content = [&](const std::string& text) {
        std::ofstream(file.path()) << text;
        return error(summary({file.path()}), 1);
    };
    std::string no_trace = "coil trace summary: " + file.path() + ": is not a trace of coil's";
    EXPECT_EQ(content(""), no_trace + "\n");
    EXPECT_EQ(content("[]\n"), no_trace + "\n");
    EXPECT_EQ(content("hello\nworld\n"), no_trace + ": line 1 is no event\n");
    EXPECT_EQ(content("[\n{\"ph\":\"i\",\"name\":\"x\",\"ts\":1}\n]\n"), no_trace + "\n");
    EXPECT_EQ(content("[\n{\"ph\":1},\n{\"ph\":\"i\"}\n]\n"), no_trace + ": line 2 is no event\n");
    write(file, ",\n{\"name\":\"f\",\"ph\":\"X\",\"ts\":");
    EXPECT_EQ(error(summary({file.path()}), 1), no_trace + ": line 3 is no event\n");

    std::string usage = "usage: coil trace summary FILE [--all] [--json]\n";
    EXPECT_EQ(error(summary({}), 2), usage);
    EXPECT_EQ(error(summary({""}), 2), usage);
    EXPECT_EQ(error(summary({"a", "b"}), 2), usage);
    EXPECT_EQ(error(summary({"a", "--everything"}), 2), usage);
}
