#pragma once

#include <future>

namespace support {

/// A door that threads wait at.
class Gate {
  public:
    void open() { opened_.set_value(); }
    void pass() const { future_.wait(); }

  private:
    std::promise<void> opened_;
    std::shared_future<void> future_ = opened_.get_future().share();
};

}  // namespace support
