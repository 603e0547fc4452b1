#include "loop/inbox.hpp"

#include <csignal>
#include <thread>

namespace coil::detail {

Inbox::Inbox() { closed_mark(); }  // not for the first time in a signal handler
Inbox::~Inbox() { close(); }

class Inbox::Visit {
  public:
    explicit Visit(Inbox& inbox) noexcept : inbox_(inbox) {
        inbox_.visitors_.fetch_add(1, std::memory_order_seq_cst);
    }
    ~Visit() {
        // ORDER: what was done with the descriptor comes before it is closed.
        inbox_.visitors_.fetch_sub(1, std::memory_order_release);
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

  private:
    Inbox& inbox_;
};

Runnable* Inbox::closed_mark() noexcept {
    static Runnable mark([](Runnable&, Runnable::How) {});
    return &mark;
}

bool Inbox::push(Runnable& node) noexcept {
    Visit visit(*this);
    Runnable* head = head_.load(std::memory_order_relaxed);
    do {
        if (head == closed_mark()) return false;
        node.next_ = head;
        // ORDER: publishes the node to take(); and before the look at asleep_, see above.
    } while (!head_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
    if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false, std::memory_order_seq_cst))
        wakeup_->wake();
    return true;
}

unsigned Inbox::note_signal(int signal_number) noexcept {
    Visit visit(*this);
    if (head_.load(std::memory_order_seq_cst) == closed_mark()) return 0;
    unsigned count = signal_number == SIGINT ? interrupts_.fetch_add(1, std::memory_order_relaxed) + 1 : 1;
    signals_.fetch_or(std::uint64_t{1} << (signal_number - 1), std::memory_order_seq_cst);
    if (asleep_.exchange(false, std::memory_order_seq_cst)) wakeup_->wake();
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
    Runnable* node = head_.exchange(closed_mark(), std::memory_order_seq_cst);
    // After a fork the visitors may have been other threads of the parent: they never leave.
    while (visitors_.load(std::memory_order_seq_cst) > 0 && forks_ == forks()) std::this_thread::yield();
    wakeup_.reset();
    while (node && node != closed_mark()) {
        Runnable* next = node->next_;
        node->function_(*node, Runnable::How::DISCARD);
        node = next;
    }
}

}  // namespace coil::detail
