#include "loop/tracer.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "base/c_text.hpp"
#include "base/forks.hpp"
#include "coil/events.hpp"
#include "coil/exceptions.hpp"
#include "coil/log.hpp"
#include "platform/poller.hpp"

namespace coil {

namespace detail {

namespace {

constexpr std::size_t BUFFER_SIZE = std::size_t{64} << 10;

std::FILE* open_or_throw(const std::string& path) {
    std::FILE* file = std::fopen(c_text(path, "embedded null byte"), "we");
    if (!file) throw_os_error(errno, path);
    std::setvbuf(file, nullptr, _IONBF, 0);
    return file;
}

/// The length of the UTF-8 sequence that the text begins with; 0: it begins with none.
std::size_t sequence_length(std::string_view text) {
    auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    unsigned first = byte(0);
    std::size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first > 0xF4 || length > text.size()) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;   // could be shorter
    if (first == 0xED && byte(1) >= 0xA0) return 0;  // a surrogate
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) >= 0x90) return 0;  // beyond the last code point
    return length;
}

void append(fmt::memory_buffer& buffer, std::string_view text) {
    buffer.append(text.data(), text.data() + text.size());
}

}  // namespace

void append_json(fmt::memory_buffer& buffer, std::string_view text) {
    auto plain = [](char c) { return c >= ' ' && c != '"' && c != '\\' && c < '\x7f'; };
    while (!text.empty()) {
        auto special = std::find_if_not(text.begin(), text.end(), plain);
        append(buffer, {text.begin(), special});
        text.remove_prefix(static_cast<std::size_t>(special - text.begin()));
        if (text.empty()) return;
        char c = text[0];
        std::size_t length = sequence_length(text);
        if (c == '"' || c == '\\') {
            buffer.push_back('\\');
            buffer.push_back(c);
        } else if (c == '\n') {
            append(buffer, "\\n");
        } else if (length == 1) {
            append(buffer, fmt::format("\\u{:04x}", static_cast<unsigned>(c)));
        } else if (length == 0) {
            append(buffer, "\\ufffd");
        } else {
            append(buffer, text.substr(0, length));
        }
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
}

// ---- the file

Tracer::Tracer(const std::string& path)
    : path_(path), file_(open_or_throw(path)), forks_(forks()), process_(process_id()), start_(Clock::now()) {
    buffer_.reserve(BUFFER_SIZE + BUFFER_SIZE / 4);
    buffer_.push_back('[');
    attempt([&] {
        metadata("process_name", 0, "name", "coil");
        metadata("thread_name", 0, "name", "loop");
        flush();
    });
}

Tracer::~Tracer() { finish(); }

bool Tracer::active() const noexcept { return !ended_ && forks_ == forks(); }

void Tracer::finish() noexcept {
    Time now = Clock::now();
    attempt([&] {
        for (const auto& [task, track] : tracks_) waited(track, now);
        mark({0, now, now}, "end of trace");
        append(buffer_, "\n]\n");
        flush();
    });
    ended_ = true;
}

void Tracer::flush() noexcept {
    if (forks_ != forks()) {  // what is buffered is the parent's, too
        ended_ = true;
    } else if (std::fwrite(buffer_.data(), 1, buffer_.size(), file_.get()) != buffer_.size()) {
        int error = errno;
        fail(std::generic_category().message(error));
    }
    buffer_.clear();
}

void Tracer::fail(std::string_view why) noexcept {
    ended_ = true;
    try {
        log(LogLevel::WARNING, fmt::format("the trace in '{}' ends here: {}", path_, why));
    } catch (...) {
        log(LogLevel::WARNING, "a trace ends here: out of memory");
    }
}

// ---- events

void Tracer::put_one(std::string_view text) { append(buffer_, text); }
void Tracer::put_one(char c) { buffer_.push_back(c); }
void Tracer::put_one(std::int64_t number) {
    fmt::format_int digits(number);
    append(buffer_, {digits.data(), digits.size()});
}
void Tracer::put_one(std::uint64_t number) {
    fmt::format_int digits(number);
    append(buffer_, {digits.data(), digits.size()});
}

void Tracer::begin_event(char phase, std::string_view name, std::string_view category, unsigned track) {
    append(buffer_, empty_ ? "\n{\"name\":\"" : ",\n{\"name\":\"");
    empty_ = false;
    append_json(buffer_, name);
    put(R"(","cat":")", category, R"(","ph":")", phase, R"(","pid":)", process_, R"(,"tid":)", track);
}

void Tracer::put_time(std::string_view key, Clock::duration time) {
    auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    auto rest = static_cast<int>(nanoseconds % 1000);
    auto digit = [](int value) { return static_cast<char>('0' + value); };
    put(",\"", key, "\":", nanoseconds / 1000, '.', digit(rest / 100), digit(rest / 10 % 10),
        digit(rest % 10));
}

void Tracer::end_event() {
    buffer_.push_back('}');
    if (buffer_.size() >= BUFFER_SIZE) flush();
}

void Tracer::metadata(std::string_view name, unsigned track, std::string_view key, std::string_view text) {
    begin_event('M', name, "__metadata", track);
    put(R"(,"args":{")", key, R"(":")");
    append_json(buffer_, text);
    append(buffer_, "\"}");
    end_event();
}

void Tracer::slice(const Slice& slice, std::string_view name, std::string_view category,
                   std::string_view arguments, bool slow) {
    begin_event('X', name, category, slice.track);
    put_time("ts", slice.began - start_);
    put_time("dur", slice.ended - slice.began);
    if (slow) append(buffer_, R"(,"cname":"terrible")");
    if (slow || !arguments.empty()) {
        append(buffer_, R"(,"args":{)");
        append(buffer_, arguments);
        if (slow) append(buffer_, arguments.empty() ? R"("slow":true)" : R"(,"slow":true)");
        buffer_.push_back('}');
    }
    end_event();
    if (slow) mark(slice, "slow");
}

void Tracer::mark(const Slice& slice, std::string_view name) {
    begin_event('i', name, "mark", slice.track);
    put_time("ts", slice.ended - start_);
    append(buffer_, R"(,"s":"t")");
    end_event();
}

void Tracer::slept(Time from, Time until) noexcept {
    attempt([&] { slice({0, from, until}, "poll", "idle"); });
}

void Tracer::callback(const Slice& run, std::string_view what, bool slow) {
    slice(run, what, "callback", {}, slow);
}

// ---- tracks of tasks

Tracer::Track& Tracer::track(const void* task) {
    Track& track = tracks_[task];
    if (track.number == 0) track.number = ++last_track_;
    return track;
}

void Tracer::name_track(Track& track, std::string name) {
    bool first = track.name.empty();
    if (!first && track.name == name) return;
    track.name = std::move(name);
    metadata("thread_name", track.number, "name", track.name);
    if (!first) return;
    begin_event('M', "thread_sort_index", "__metadata", track.number);
    put(R"(,"args":{"sort_index":)", track.number, '}');
    end_event();
}

void Tracer::waited(const Track& track, Time until) {
    if (!track.waits_on.empty()) slice({track.number, track.waits_since, until}, track.waits_on, "wait");
}

void Tracer::step(const Slice& run, std::string_view name, std::string_view arguments, bool slow) {
    slice(run, name, "run", arguments, slow);
}

// ---- arrows

std::uint64_t Tracer::popped(const Runnable& node) noexcept {
    auto found = arrows_.find(&node);
    if (found == arrows_.end()) return 0;
    std::uint64_t arrow = found->second;
    arrows_.erase(found);
    return arrow;
}

void Tracer::arrow_begins(const Slice& from, const Runnable& node) {
    std::uint64_t arrow = ++last_arrow_;
    arrows_[&node] = arrow;
    begin_event('s', "wake", "wake", from.track);
    // Within the slice: its end is outside.
    put_time("ts", std::max(from.began, from.ended - std::chrono::nanoseconds(1)) - start_);
    put(R"(,"id":)", arrow);
    end_event();
}

void Tracer::arrow_ends(const Slice& at, std::uint64_t arrow) {
    begin_event('f', "wake", "wake", at.track);
    put_time("ts", at.began - start_);
    put(R"(,"bp":"e","id":)", arrow);
    end_event();
}

// ---- the environment

void trace_by_environment(EventLoop& loop) {
    const char* wanted = std::getenv("COIL_TRACE");
    if (!wanted || !*wanted || loop.is_tracing()) return;
    static std::atomic<unsigned> loops{0};
    static std::atomic<unsigned> counted_forks{0};
    std::string path = wanted;
    if (unsigned now = forks()) {
        path += "." + std::to_string(process_id());
        if (counted_forks.exchange(now) != now) loops = 0;
    }
    unsigned number = ++loops;
    if (number > 1) path += "." + std::to_string(number);
    try {
        loop.start_tracing(path);
    } catch (const OSError& error) {
        log(LogLevel::WARNING, fmt::format("COIL_TRACE: no trace is written: {}", error.what()));
    }
}

}  // namespace detail

void EventLoop::start_tracing(const std::string& path) {
    check_usable();
    if (is_tracing()) throw RuntimeError("This event loop is traced already: call stop_tracing() first");
    core_.tracer = detail::Ref<detail::Tracer>(new detail::Tracer(path));
    core_.watched = true;
}

void EventLoop::stop_tracing() {
    if (!core_.tracer) return;
    check_usable();
    core_.tracer->finish();
    core_.tracer = nullptr;
    core_.watched = core_.debug;
}

bool EventLoop::is_tracing() const noexcept { return core_.tracer && core_.tracer->active(); }

}  // namespace coil
