#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

struct XXH3_state_s;  // of xxhash.h

namespace fathom::data {

// XXH3 (https://github.com/Cyan4973/xxHash): what token shards, tokenizers and checkpoints are
// checked by. It finds damage, not intent.

// XXH3-64 of the bytes.
std::uint64_t checksum(std::string_view bytes) noexcept;
std::uint64_t checksum(std::span<const std::byte> bytes) noexcept;
// For hash tables with texts as keys.
struct ChecksumHash {
  using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard names it
  std::size_t operator()(std::string_view text) const noexcept { return checksum(text); }
};

namespace detail {
struct FreeChecksum {
  void operator()(XXH3_state_s* state) const noexcept;
};
using ChecksumState = std::unique_ptr<XXH3_state_s, FreeChecksum>;
}  // namespace detail

// XXH3-64 over bytes that come piece by piece; with seed 0 the same as checksum().
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

}  // namespace fathom::data
