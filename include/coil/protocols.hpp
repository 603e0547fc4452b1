#pragma once

// Protocols: what a transport calls. Callback code derives from Protocol, BufferedProtocol or DatagramProtocol; coroutines use
// streams instead.

#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <string_view>

#include "coil/fwd.hpp"

namespace coil {

/// What every transport tells its protocol. All calls come from the loop, never inside a call of the transport's, but for
/// `pause_writing`, which comes inside the write that fills the buffer, and `error_received`.
class BaseProtocol {
  public:
    virtual ~BaseProtocol() = default;

    /// Once, last. Null: the end of the stream, `close()` or `abort()`.
    virtual void connection_lost(std::exception_ptr error);
    /// The write buffer has grown above its high mark; `resume_writing` when it is at the low mark again. They alternate.
    virtual void pause_writing() {}
    virtual void resume_writing() {}
};

/// What a Transport drives: a Protocol or a BufferedProtocol.
class StreamingProtocol : public BaseProtocol {
  public:
    /// Once, first.
    virtual void connection_made(std::shared_ptr<Transport> transport);
    /// The peer writes no more. False: the transport closes once all is written; true: it stays open for writing (not over TLS).
    virtual bool eof_received() { return false; }

  private:
    friend class Protocol;
    friend class BufferedProtocol;
    StreamingProtocol() = default;
};

/// Bytes in and out.
class Protocol : public StreamingProtocol {
  public:
    /// Some bytes, never none, in order. The view is valid during the call.
    virtual void data_received(std::string_view data);
};

/// Bytes in and out, received into memory that the protocol owns.
class BufferedProtocol : public StreamingProtocol {
  public:
    /// Where the next bytes go: not empty, and valid until `buffer_updated`. `hint`: how many would be good; 0: any number.
    virtual std::span<std::byte> get_buffer(std::size_t hint) = 0;
    /// The first `size` bytes of that buffer have arrived. Never 0.
    virtual void buffer_updated(std::size_t size) = 0;
};

/// Messages in and out: UDP, Unix datagrams.
class DatagramProtocol : public BaseProtocol {
  public:
    virtual void connection_made(std::shared_ptr<DatagramTransport> transport);
    /// One message, which may be empty. The view is valid during the call.
    virtual void datagram_received(std::string_view data, const SocketAddress& address);
    /// A send or receive failed, with an OSError: an earlier one, or, inside `sendto`, this one. The endpoint goes on.
    virtual void error_received(std::exception_ptr error);
};

/// A child process. First connection_made; then data, ends of pipes and process_exited in any order; connection_lost last.
class SubprocessProtocol : public BaseProtocol {
  public:
    virtual void connection_made(std::shared_ptr<SubprocessTransport> transport);
    /// What the child wrote; 1 is its standard output, 2 its standard error. The view is valid during the call.
    virtual void pipe_data_received(int fd, std::string_view data);
    virtual void pipe_connection_lost(int fd, std::exception_ptr error);
    virtual void process_exited() {}
};

}  // namespace coil
