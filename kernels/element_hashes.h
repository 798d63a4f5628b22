#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// A hash of an element's index and bits, by two products of which both halves are folded together,
// so that every bit of a factor reaches every bit of the result: the mixing step of wyhash and
// XXH3. constexpr, so that CUDA kernels can call it.
struct ElementHash {
  std::uint64_t high = 0;
  std::uint64_t low = 1;  // odd

  constexpr std::uint64_t operator()(std::uint64_t index, std::uint64_t bits) const noexcept {
    constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio
    return folded_product(folded_product(index ^ high, kOdd) ^ bits, low);
  }

 private:
  using UInt128 = unsigned __int128;
  static constexpr std::uint64_t folded_product(std::uint64_t a, std::uint64_t b) noexcept {
    const UInt128 product = static_cast<UInt128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
};

// Which indices the elements of a matrix are hashed with.
struct IndexedElements {
  ElementHash hash;
  std::uint64_t first = 0;       // of element (0, 0)
  std::uint64_t row_stride = 0;  // from a row to the next
};

// sum += the sum over i and j of hash(first + i * row_stride + j, bits of x[i, j]), modulo 2^64: in
// any order, with the same result on every device.
//   x    [num_rows, num_columns], any dtype
//   sum  [1] int64, in-out
// Asynchronous on `stream`. Throws InternalError on a mismatch.
void add_element_hashes(const IndexedElements& elements, const Tensor& x, Tensor& sum,
                        Stream& stream);

extern constinit KernelSlot<void(const IndexedElements&, const Tensor&, Tensor&, Stream&)>
    add_element_hashes_slot;

}  // namespace fathom::kernels
