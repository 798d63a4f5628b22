#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace fathom {

// Philox4x32-10 (Salmon et al., SC'11): 128 random bits as a pure function of key and counter.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 2> key,
                                    std::array<std::uint32_t, 4> counter) noexcept;

// Random numbers keyed by what they are for, never by who draws them: (seed, purpose, index). The
// same on every layout, at any time, in any order. Example: RandomSource(seed,
// "init/model.embed_tokens.weight").normal(element).
class RandomSource {
 public:
  RandomSource(std::uint64_t seed, std::string_view purpose) noexcept;
  explicit RandomSource(std::array<std::uint32_t, 2> key) noexcept : key_(key) {}  // of key()

  std::array<std::uint32_t, 2> key() const noexcept { return key_; }  // of philox
  std::uint64_t bits(std::uint64_t index) const noexcept;
  double uniform(std::uint64_t index) const noexcept;  // in (0, 1)
  // N(0, 1), by the inverse distribution function (AS 241).
  float normal(std::uint64_t index) const noexcept;
  // In [0, bound), bias < 2^-64 * bound.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const noexcept;

 private:
  std::array<std::uint32_t, 2> key_;
};

}  // namespace fathom
