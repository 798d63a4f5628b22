#pragma once

#include <cuda_runtime.h>

#include "core/bfloat16.h"

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {fathom::BFloat16(value).bits()}; }
inline float __bfloat162float(__nv_bfloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) {
  return __floats2bfloat162_rn(value.x, value.y);
}
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
  return {__bfloat162float(value.x), __bfloat162float(value.y)};
}

namespace fathom::emulator {

// ldmatrix.sync.aligned.m8n8.xN.shared.b16, N = kMatrices, `row` of this lane.
template <int kMatrices>
void load_matrices(unsigned (&to)[kMatrices], const void* row, bool is_transposed) {
  if (to_bits(row) % 16 != 0) {
    fail("ldmatrix: a row that does not begin at a 16-byte address");
  }
  const std::uint16_t* rows[32];
  std::memcpy(rows, exchange_in_warp(to_bits(row)), sizeof(rows));
  const int group = current->lane() / 4;
  const int first = current->lane() % 4 * 2;
  for (int i = 0; i < kMatrices; ++i) {
    const auto at = [&](int r, int column) { return unsigned{rows[8 * i + r][column]}; };
    to[i] = is_transposed ? at(first, group) | at(first + 1, group) << 16
                          : at(group, first) | at(group, first + 1) << 16;
  }
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 with the fragments of the PTX ISA: c += a b.
// As on a tensor core, the 16 products are added together before anything is rounded: which of them
// share an instruction shows in the bits.
inline void mma_m16n8k16_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Registers {
    const unsigned* a;
    const unsigned* b;
  };
  const Registers own{a, b};
  const Registers* all[32];
  std::memcpy(all, exchange_in_warp(to_bits(&own)), sizeof(all));
  const auto half = [](const unsigned* registers, int index) {
    return __uint_as_float((registers[index / 2] >> (index % 2 * 16)) << 16);
  };
  // Element i of a lane's registers of a: row g (+ 8 for i in {2, 3, 6, 7}), column 2t + i % 2 (+ 8
  // for i >= 4); of b: row 2t + i % 2 (+ 8 for i >= 2), column g.
  const auto a_at = [&](int row, int k) {
    return half(all[row % 8 * 4 + k % 8 / 2]->a, k / 8 * 4 + row / 8 * 2 + k % 2);
  };
  const auto b_at = [&](int k, int column) {
    return half(all[column * 4 + k % 8 / 2]->b, k / 8 * 2 + k % 2);
  };
  for (int i = 0; i < 4; ++i) {
    const int row = current->lane() / 4 + i / 2 * 8;
    const int column = current->lane() % 4 * 2 + i % 2;
    double sum = c[i];
    for (int k = 0; k < 16; ++k) {
      sum += double{a_at(row, k)} * double{b_at(k, column)};
    }
    c[i] = static_cast<float>(sum);
  }
  exchange_in_warp(0);  // others may still read this lane's registers
}

}  // namespace fathom::emulator
