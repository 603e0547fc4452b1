#pragma once

#include <coil/coil.hpp>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

/// The server's answer is not HTTP, or too large.
class BadAnswer : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct Response {
    int status = 0;
    std::string reason;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
};

/// How one URL of fetch_all went: a response, or what is wrong with it.
struct Page {
    std::string url;
    Response response;
    std::string error;  // empty: all is well
};

/// An HTTP/1.1 client, one connection per request. An async context manager: requests are made inside its block, and its exit
/// waits for those that still run.
class HttpClient {
  public:
    struct Limits {
        std::ptrdiff_t concurrent_requests = 10;
        coil::Duration per_request = std::chrono::seconds(30);  // from connecting to the last byte
        std::size_t body_size = std::size_t{256} << 20;
    };

    explicit HttpClient(Limits limits) : limits_(limits), slots_(limits.concurrent_requests) {}

    coil::Coro<HttpClient&> aenter();
    coil::Coro<> aexit(std::exception_ptr error);

    /// Throws coil::TimeoutError, coil::OSError, BadAnswer, coil::ValueError for a bad URL.
    coil::Coro<Response> get(std::string url);

    /// Gets all of them, in a group; a page that fails does not disturb the others. `progress` hears how many are done.
    coil::Coro<std::vector<Page>> fetch_all(std::vector<std::string> urls,
                                            std::function<void(std::size_t)> progress);

  private:
    coil::Coro<Response> exchange(std::string url);
    coil::Coro<> fetch_one(Page& page);

    Limits limits_;
    coil::Semaphore slots_;
    coil::Event idle_;
    std::size_t running_ = 0;
    bool open_ = false;
};
