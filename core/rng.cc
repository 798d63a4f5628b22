#include "core/rng.h"

#include "core/normal_distribution.h"

namespace fathom {
namespace {

__extension__ using UInt128 = unsigned __int128;

std::uint64_t fnv1a(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char letter : text) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3U;
  }
  return hash;
}

std::uint32_t low_word(std::uint64_t value) noexcept { return static_cast<std::uint32_t>(value); }
std::uint32_t high_word(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 32);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 2> key,
                                    std::array<std::uint32_t, 4> counter) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {high_word(b) ^ counter[1] ^ key[0], low_word(b), high_word(a) ^ counter[3] ^ key[1],
               low_word(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

RandomSource::RandomSource(std::uint64_t seed, std::string_view purpose) noexcept {
  const std::uint64_t hash = fnv1a(purpose);
  const auto mixed =
      philox({low_word(hash), high_word(hash)}, {low_word(seed), high_word(seed), 0, 0});
  key_ = {mixed[0], mixed[1]};
}

std::uint64_t RandomSource::bits(std::uint64_t index) const noexcept {
  const auto words = philox(key_, {low_word(index), high_word(index), 0, 0});
  return std::uint64_t{words[1]} << 32 | words[0];
}

double RandomSource::uniform(std::uint64_t index) const noexcept {
  // An odd multiple of 2^-53, which a double holds exactly: neither 0 nor 1 can come out.
  return (static_cast<double>(bits(index) >> 12) + 0.5) * 0x1p-52;
}

float RandomSource::normal(std::uint64_t index) const noexcept {
  return static_cast<float>(inverse_normal_distribution(uniform(index)));
}

std::uint64_t RandomSource::below(std::uint64_t index, std::uint64_t bound) const noexcept {
  return static_cast<std::uint64_t>(static_cast<UInt128>(bits(index)) * bound >> 64);
}

}  // namespace fathom
