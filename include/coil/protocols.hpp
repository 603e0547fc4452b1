#pragma once

// Protocols: what a transport calls. Callback code derives from Protocol; coroutines use streams instead.

#include <exception>
#include <memory>
#include <string_view>

#include "coil/fwd.hpp"

namespace coil {

/// What every transport tells its protocol. All calls come from the loop, never inside a call of the transport's.
class BaseProtocol {
  public:
    virtual ~BaseProtocol() = default;

    /// Once, first.
    virtual void connection_made(std::shared_ptr<Transport> transport);
    /// Once, last. Null: the end of the stream, `close()` or `abort()`.
    virtual void connection_lost(std::exception_ptr error);
    /// The write buffer has grown above its high mark; `resume_writing` when it is at the low mark again. They alternate.
    virtual void pause_writing() {}
    virtual void resume_writing() {}
};

/// Bytes in and out.
class Protocol : public BaseProtocol {
  public:
    /// Some bytes, never none, in order. The view is valid during the call.
    virtual void data_received(std::string_view data) = 0;
    /// The peer writes no more. False: the transport closes once all is written; true: it stays open for writing.
    virtual bool eof_received() { return false; }
};

}  // namespace coil
