#pragma once

// A trace of a loop, in the JSON that Perfetto and Chrome read (the "trace event format"), one event a line.
//
//   track 0, "loop"    callbacks that are no step of a task, and "poll": the loop sleeps
//   track 1, 2, …      a task each: its steps, and between them what it waited on
//
// Whatever a callback or a step queues gets an arrow: from there to where it runs. What comes from the kernel, from timers and
// from other threads has none; nor has what queues itself again.
//
// The file is the open end of an array, so one that was cut off is as good as another.

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "coil/detail/runnable.hpp"
#include "coil/fwd.hpp"

namespace coil::detail {

class Tracer {
  public:
    // Not the loop's clock: virtual time stands still while a callback runs.
    using Clock = std::chrono::steady_clock;
    using Time = Clock::time_point;

    struct Slice {
        unsigned track;
        Time began;
        Time ended;
    };
    /// What belongs to the task between its steps.
    struct Track {
        unsigned number = 0;
        std::string name;
        std::string waits_on;  // empty: nothing
        Time waits_since;
    };

    /// Begins the file; OSError. What writes to it is called inside attempt().
    explicit Tracer(const std::string& path);
    ~Tracer();
    Tracer(const Tracer&) = delete;
    Tracer& operator=(const Tracer&) = delete;

    // Runs keep it: tracing may be stopped in the middle of one.
    void retain() noexcept { ++owners_; }
    void release() noexcept {
        if (--owners_ == 0) delete this;
    }

    /// False once it has ended, or the file cannot be written, or in a forked child. Then everything else does nothing.
    bool active() const noexcept;
    /// Writes the end.
    void finish() noexcept;

    // ---- the loop's track

    void slept(Time from, Time until) noexcept;
    void callback(const Slice& slice, std::string_view what, bool slow);

    // ---- tracks of tasks

    /// Made when asked for first.
    Track& track(const void* task);
    void forget_track(const void* task) noexcept { tracks_.erase(task); }
    void name_track(Track& track, std::string name);
    void waited(const Track& track, Time until);
    /// `arguments`: the inside of a JSON object.
    void step(const Slice& slice, std::string_view name, std::string_view arguments, bool slow);
    void mark(const Slice& slice, std::string_view name);

    // ---- arrows

    /// The node leaves the ready queue: gives the arrow that ends there, or zero.
    std::uint64_t popped(const Runnable& node) noexcept;
    void arrow_ends(const Slice& slice, std::uint64_t arrow);
    void arrow_begins(const Slice& slice, const Runnable& node);

    /// Calls `write` if anything is written at all; what it throws ends the trace.
    template <class Write>
    void attempt(const Write& write) noexcept {
        if (ended_) return;
        try {
            write();
        } catch (...) {
            fail("out of memory");
        }
    }

  private:
    void begin_event(char phase, std::string_view name, std::string_view category, unsigned track);
    void metadata(std::string_view name, unsigned track, std::string_view key, std::string_view text);
    void end_event();
    void put_time(std::string_view key, Clock::duration time);
    void slice(const Slice& slice, std::string_view name, std::string_view category,
               std::string_view arguments = {}, bool slow = false);
    /// Texts, characters and numbers, one behind the other. Not a format: that brings thirty times the code.
    template <class... Parts>
    void put(const Parts&... parts) {
        (put_one(parts), ...);
    }
    void put_one(std::string_view text);
    void put_one(char c);
    void put_one(std::int64_t number);
    void put_one(std::uint64_t number);
    void put_one(int number) { put_one(std::int64_t{number}); }
    void put_one(unsigned number) { put_one(std::uint64_t{number}); }
    void flush() noexcept;
    void fail(std::string_view why) noexcept;

    struct Close {
        void operator()(std::FILE* file) const noexcept { std::fclose(file); }
    };

    const std::string path_;
    const std::unique_ptr<std::FILE, Close> file_;
    const unsigned forks_;
    const int process_;
    const Time start_;
    fmt::memory_buffer buffer_;
    std::unordered_map<const void*, Track> tracks_;              // by task, while it is pending
    std::unordered_map<const Runnable*, std::uint64_t> arrows_;  // to what is in the ready queue
    unsigned last_track_ = 0;
    std::uint64_t last_arrow_ = 0;
    unsigned owners_ = 0;
    bool empty_ = true;  // no event yet
    bool ended_ = false;
};

/// Adds the text, escaped as in a JSON string; what is not UTF-8 becomes U+FFFD.
void append_json(fmt::memory_buffer& buffer, std::string_view text);

/// For a loop that runs for the first time: begins what `COIL_TRACE` asks for.
void trace_by_environment(EventLoop& loop);

}  // namespace coil::detail
