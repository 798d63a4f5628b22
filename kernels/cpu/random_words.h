#pragma once

#include <array>
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace fathom::kernels::cpu {

// The upper 32 bits of RandomSource::bits(first), ..., bits(first + 15), by the vector unit.
inline void upper_random_words(const std::array<std::uint32_t, 2>& key, std::uint64_t first,
                               std::uint32_t* words) {
  namespace hn = simd::hn;
  const hn::CappedTag<std::uint64_t, 4> d;  // each lane a number of 32 bits
  const hn::Repartition<std::uint32_t, decltype(d)> d32;
  using Lanes = hn::Vec<decltype(d)>;
  constexpr int kLanesAtATime = 4;
  const auto low = hn::Set(d, 0xFFFFFFFFU);
  const auto product = [&](Lanes a, std::uint32_t b) {
    return hn::MulEven(hn::BitCast(d32, a), hn::Set(d32, b));
  };
  for (int i = 0; i < simd::kLanes; i += kLanesAtATime) {
    const Lanes index = hn::Add(hn::Set(d, first + static_cast<std::uint64_t>(i)), hn::Iota(d, 0));
    Lanes word0 = hn::And(index, low);
    Lanes word1 = hn::ShiftRight<32>(index);
    Lanes word2 = hn::Zero(d);
    Lanes word3 = hn::Zero(d);
    std::uint32_t key0 = key[0];
    std::uint32_t key1 = key[1];
    for (int round = 0; round < 10; ++round) {  // as philox()
      const Lanes a = product(word0, 0xD2511F53U);
      const Lanes b = product(word2, 0xCD9E8D57U);
      word0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(b), word1), hn::Set(d, key0));
      word2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(a), word3), hn::Set(d, key1));
      word1 = hn::And(b, low);
      word3 = hn::And(a, low);
      key0 += 0x9E3779B9U;
      key1 += 0xBB67AE85U;
    }
    alignas(32) std::uint64_t lanes[kLanesAtATime];
    hn::Store(word1, d, lanes);
    for (int lane = 0; lane < kLanesAtATime; ++lane) {
      words[i + lane] = static_cast<std::uint32_t>(lanes[lane]);
    }
  }
}

}  // namespace fathom::kernels::cpu
