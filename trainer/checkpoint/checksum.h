#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace fathom::trainer {

// XXH3 over bytes that come piece by piece (https://github.com/Cyan4973/xxHash).
namespace detail {
struct FreeChecksum {
  void operator()(XXH3_state_t* state) const noexcept { XXH3_freeState(state); }
};
using ChecksumState = std::unique_ptr<XXH3_state_t, FreeChecksum>;
}  // namespace detail

class Checksum64 {
 public:
  explicit Checksum64(std::uint64_t seed = 0);
  void add(std::span<const std::byte> bytes);
  std::uint64_t value() const;

 private:
  detail::ChecksumState state_;
};

struct Bits128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const Bits128&) const = default;
};

class Checksum128 {
 public:
  Checksum128();
  void add(std::span<const std::byte> bytes);
  Bits128 value() const;

 private:
  detail::ChecksumState state_;
};

}  // namespace fathom::trainer
