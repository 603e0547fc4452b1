// Boost.Asio with coroutines on both compilers.
#pragma once

#include <utility>  // Boost 1.74 uses std::exchange without it

#if defined(__clang__)  // Boost 1.74 looks only for Clang's experimental coroutines
#ifndef BOOST_ASIO_HAS_CO_AWAIT
#define BOOST_ASIO_HAS_CO_AWAIT 1
#endif
#ifndef BOOST_ASIO_HAS_STD_COROUTINE
#define BOOST_ASIO_HAS_STD_COROUTINE 1
#endif
#endif

#include <boost/asio.hpp>

namespace asio = boost::asio;
using boost::system::error_code;

template <class T = void>
using Awaitable = asio::awaitable<T>;

/// Runs `io` until it has nothing left to do and gives the nanoseconds that took.
template <class Clock>
double run_timed(asio::io_context& io, Clock now) {
    io.restart();
    double start = now();
    io.run();
    return now() - start;
}
