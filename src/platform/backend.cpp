#include <string>

#include "coil/exceptions.hpp"
#include "platform/epoll.hpp"
#include "platform/poller.hpp"
#include "platform/uring.hpp"

namespace coil::detail {

std::unique_ptr<Poller> make_poller(std::string_view name) {
    if (name == "epoll") return make_epoll_poller();
    if (name == "uring") return make_uring_poller();
    if (!name.empty())
        throw ValueError("there is no backend '" + std::string(name) + "'; COIL_BACKEND is uring or epoll");
    try {
        return make_uring_poller();
    } catch (const OSError&) {
        // EPERM or ENOSYS in a container, an old kernel, a limit on locked memory: epoll does the same.
        return make_epoll_poller();
    }
}

}  // namespace coil::detail
