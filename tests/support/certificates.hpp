#pragma once

// Certificates made at test time: an authority of our own, and what it issues. Keys are on the curve P-256, which is quick.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace support {

/// A directory that goes with the object.
class TemporaryDirectory {
  public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    std::string path(const std::string& name) const { return (path_ / name).string(); }
    /// Writes a file; gives its path.
    std::string write(const std::string& name, const std::string& text) const;

  private:
    std::filesystem::path path_;
};

/// In PEM.
struct Identity {
    std::string certificate;
    std::string key;
};

struct Subject {
    std::string name = "localhost";
    std::vector<std::string> alt_names = {"DNS:localhost", "IP:127.0.0.1"};  // in OpenSSL's notation
    long valid_from = -3600;                                                 // seconds from now
    long valid_until = 24 * 3600;
    long serial = 0;  // 0: the next one
};

class Authority {
  public:
    explicit Authority(const std::string& name = "coil test authority");
    ~Authority();

    /// Its own certificate.
    const std::string& certificate() const;
    Identity issue(const Subject& subject = {});
    /// A list of revoked certificates, by serial number.
    std::string revoke(const std::vector<long>& serials) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Signed by its own key, by no authority.
Identity self_signed(const Subject& subject = {});
/// The key, encrypted.
std::string with_password(const std::string& key, const std::string& password);

}  // namespace support
