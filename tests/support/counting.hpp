#pragma once

#include <utility>

#include "coil/coroutines.hpp"
#include "support/alive.hpp"
#include "support/backends.hpp"

namespace support {

/// A fixture whose runs must leave nothing behind.
class CountingOnBackend : public OnBackend {
  protected:
    /// As coil::run; afterwards as many descriptors and counted objects are there as before.
    template <class T>
    T run(coil::Coro<T> coro) {
        struct Check {
            std::size_t fds = open_fds();
            long alive = Alive::count();
            ~Check() {
                EXPECT_EQ(open_fds(), fds);
                EXPECT_EQ(Alive::count(), alive);
            }
        } check;
        return coil::run(std::move(coro), {.loop_factory = factory()});
    }
};

}  // namespace support
