#pragma once

#include <cstdint>

namespace fathom::kernels::cuda {

// Operands of wgmma in shared memory: PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory
// Layout". An operand has an index (the row of A, the column of B) and a depth that is summed over;
// its elements have two bytes. What is contiguous is its major-ness, K (depth) or MN (index).
enum class Major { kK, kMN };

// A panel is 64 deep. Tensor loads with the 128-byte swizzle write it as boxes of 128 bytes a row,
// which begin at multiples of 1024 bytes:
//   kK   one box: row = index, 64 depths a row
//   kMN  a box per 64 indices: row = depth, 64 indices a row
inline constexpr int kPanelDepth = 64;
inline constexpr int kBoxColumns = 64;  // elements of a row of a box
inline constexpr int kRowBytes = 128;
inline constexpr int kAtomBytes = 1024;  // eight rows, after which the swizzle repeats
inline constexpr int kMNBoxBytes = kPanelDepth * kRowBytes;

// Where the 128-byte swizzle puts the byte at `address` of the unswizzled layout: the 16-byte chunk
// within a row is exclusive-ored with the row's place among eight.
constexpr std::uint32_t swizzle(std::uint32_t address) {
  return address ^ ((address / kRowBytes % 8) * 16);
}

// The matrix descriptor. With this swizzle the leading dimension's offset is that from 64 indices
// to the next (kMN; not used with kK), the stride dimension's offset that from eight rows to the
// next.
constexpr std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading_bytes,
                                          std::uint32_t stride_bytes) {
  constexpr std::uint64_t kSwizzle128Bytes = 1;
  const auto encode = [](std::uint32_t bytes) {
    return static_cast<std::uint64_t>((bytes & 0x3ffffU) >> 4);
  };
  return encode(address) | encode(leading_bytes) << 16 | encode(stride_bytes) << 32 |
         kSwizzle128Bytes << 62;
}

// The descriptor of the part of a panel that begins at `index`, a multiple of 64, and `depth`, a
// multiple of 16. `address` is the panel's in shared memory.
template <Major kMajor>
constexpr std::uint64_t panel_descriptor(std::uint32_t address, int index, int depth) {
  const auto i = static_cast<std::uint32_t>(index);
  const auto k = static_cast<std::uint32_t>(depth);
  if constexpr (kMajor == Major::kK) {
    return matrix_descriptor(address + i * kRowBytes + k * 2, 0, kAtomBytes);
  } else {
    return matrix_descriptor(address + i / kBoxColumns * kMNBoxBytes + k * kRowBytes, kMNBoxBytes,
                             kAtomBytes);
  }
}

// The accumulator of wgmma.m64nNk16 (PTX ISA, "Register Fragments"): of each eight columns a lane
// holds two neighbours, from 2 (lane % 4) on, in two of the 16 rows of its warp: registers 4 j and
// 4 j + 1 in this row, 4 j + 2 and 4 j + 3 in that eight rows below.
constexpr int accumulator_row(int lane) { return lane / 4; }

}  // namespace fathom::kernels::cuda
