#include "loop/inbox.hpp"

#include <csignal>

namespace coil::detail {

Inbox::~Inbox() { close(); }

Runnable* Inbox::closed_mark() noexcept {
    static Runnable mark([](Runnable&, Runnable::How) {});
    return &mark;
}

bool Inbox::push(Runnable& node) noexcept {
    Runnable* head = head_.load(std::memory_order_relaxed);
    do {
        if (head == closed_mark()) return false;
        node.next_ = head;
        // ORDER: publishes the node to take(); and before the look at asleep_, see above.
    } while (!head_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
    if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false, std::memory_order_seq_cst))
        wakeup_.wake();
    return true;
}

unsigned Inbox::note_signal(int signal_number) noexcept {
    unsigned count = signal_number == SIGINT ? interrupts_.fetch_add(1, std::memory_order_relaxed) + 1 : 1;
    signals_.fetch_or(std::uint64_t{1} << (signal_number - 1), std::memory_order_seq_cst);
    if (asleep_.exchange(false, std::memory_order_seq_cst)) wakeup_.wake();
    return count;
}

void Inbox::take(ReadyQueue& queue) noexcept {
    if (head_.load(std::memory_order_relaxed) == nullptr) return;
    // ORDER: sees all that the pushers wrote into their nodes.
    Runnable* newest = head_.exchange(nullptr, std::memory_order_acquire);
    Runnable* last = newest;
    Runnable* first = nullptr;
    while (newest) {
        Runnable* older = newest->next_;
        newest->next_ = first;
        first = newest;
        newest = older;
    }
    queue.splice(*first, *last);
}

bool Inbox::prepare_sleep() noexcept {
    asleep_.store(true, std::memory_order_seq_cst);
    if (head_.load(std::memory_order_seq_cst) == nullptr && signals_.load(std::memory_order_seq_cst) == 0)
        return true;
    awake();
    return false;
}

void Inbox::close() noexcept {
    Runnable* node = head_.exchange(closed_mark(), std::memory_order_acquire);
    while (node && node != closed_mark()) {
        Runnable* next = node->next_;
        node->function_(*node, Runnable::How::DISCARD);
        node = next;
    }
}

}  // namespace coil::detail
