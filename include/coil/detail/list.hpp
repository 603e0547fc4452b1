#pragma once

// An intrusive, circular, doubly linked list: nodes live in what they belong to and unlink themselves in O(1).

namespace coil::detail {

struct ListNode {
    ListNode* prev_ = nullptr;
    ListNode* next_ = nullptr;

    ListNode() = default;
    ListNode(const ListNode&) = delete;
    ListNode& operator=(const ListNode&) = delete;

    bool linked() const noexcept { return next_ != nullptr; }
    void unlink() noexcept {
        prev_->next_ = next_;
        next_->prev_ = prev_;
        prev_ = next_ = nullptr;
    }
};

template <class T>  // T derives from ListNode
class List {
  public:
    List() noexcept { head_.prev_ = head_.next_ = &head_; }
    /// Nodes that outlive their list are left unlinked.
    ~List() {
        while (head_.next_ != &head_) head_.next_->unlink();
    }

    bool empty() const noexcept { return head_.next_ == &head_; }
    T* front() const noexcept { return empty() ? nullptr : static_cast<T*>(head_.next_); }
    T* after(const T& node) const noexcept {
        ListNode* next = static_cast<const ListNode&>(node).next_;
        return next == &head_ ? nullptr : static_cast<T*>(next);
    }
    void push_back(T& node) noexcept {
        ListNode& n = node;
        n.prev_ = head_.prev_;
        n.next_ = &head_;
        head_.prev_->next_ = &n;
        head_.prev_ = &n;
    }

  private:
    ListNode head_;
};

}  // namespace coil::detail
