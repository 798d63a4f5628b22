#include <cstring>

#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/grouped_matmul_sm90.cuh"

// Weight gradients as sums of integers. A tile's stay in registers over all parts of its expert, so
// both warpgroups share a tile of 128 x 128: 64 float32 and 64 int64 numbers a thread.

namespace fathom::kernels::cuda {
namespace grouped {
namespace {

using ContributionShape =
    Shape<GroupedProduct::kBackwardWeight, 128, Tiles::kShared, /*kSumsByPart=*/true>;

// Which of a lane's elements of a tile exist. Element e of the accumulator is in column
// `column` + e / 4 * 8 + e % 2 and in row `row` + e % 4 / 2 * 8 (sm90_layout.h).
struct Elements {
  int row = 0;
  int row_end = 0;
  int column = 0;
  int columns = 0;
  __device__ bool has(int element) const {
    return row + element % 4 / 2 * 8 < row_end && column + element / 4 * 8 < columns;
  }
};

__device__ __forceinline__ Elements elements_of(const GroupedTile& tile, const Consumer& self) {
  return {.row = tile.row + self.first_row<ContributionShape>() + self.warp * 16 +
                 accumulator_row(self.lane),
          .row_end = tile.row_end,
          .column = tile.column + self.lane % 4 * 2,
          .columns = tile.column_end};
}

// Two neighbours of C, which are read and written at once.
using Neighbours = Pack<std::int64_t, 2>;
__device__ __forceinline__ Neighbours load_in_place(const std::int64_t* from) {
  const float4 bits = cuda::load_in_place(reinterpret_cast<const float*>(from));
  Neighbours values;
  memcpy(&values, &bits, sizeof(bits));
  return values;
}

// Writes or adds a lane's sums; some are read before the first of them is written, so that the
// reads wait together.
template <int kCount>
__device__ __forceinline__ void write(const std::int64_t (&sums)[kCount], const Elements& elements,
                                      std::int64_t* c, std::int64_t stride, bool is_adding) {
  constexpr int kAtOnce = 8;
  std::int64_t* const first = c + elements.row * stride + elements.column;
#pragma unroll
  for (int begin = 0; begin < kCount; begin += 2 * kAtOnce) {
    Neighbours old[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int element = begin + 2 * i;
      if (is_adding && elements.has(element)) {
        old[i] = load_in_place(first + element % 4 / 2 * 8 * stride + element / 4 * 8);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int element = begin + 2 * i;
      if (elements.has(element)) {
        *reinterpret_cast<Neighbours*>(first + element % 4 / 2 * 8 * stride + element / 4 * 8) = {
            old[i].values[0] + sums[element], old[i].values[1] + sums[element + 1]};
      }
    }
  }
}

// How many of a lane's sums are refused: not what lies outside, zero times something that may be
// NaN.
template <int kCount>
__device__ __forceinline__ unsigned count_refused(const float (&d)[kCount],
                                                  const Elements& elements,
                                                  const Contributions& contributions) {
  unsigned refused = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    contributions.of(elements.has(i) ? d[i] : 0.0F, refused);
  }
  return refused;
}

// One contribution a part of an expert's tokens.
struct PartContributions {
  std::int64_t* c = nullptr;
  std::int64_t stride = 0;  // from a row to the next
  Contributions contributions;

  template <class S>
  __device__ __forceinline__ void consume(const GroupedSizes& sizes, const Consumer& self,
                                          Ring<S> ring) const {
    unsigned refused = 0;
    typename S::Walk walk(sizes, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
    for (GroupedTile tile; walk.next(tile);) {
      constexpr int kCount = S::kColumns / 2;
      const Elements elements = elements_of(tile, self);
      std::int64_t sums[kCount] = {};
      typename S::Ranges parts(sizes, tile);
      for (DepthRange part; parts.next(part);) {
        typename S::Accumulator d = {};
        multiply<S>(part, self, ring, d);
        unsigned refused_anywhere = 0;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          sums[i] += contributions.of(d[0][i], refused_anywhere);
        }
        if (refused_anywhere > 0) {
          refused += count_refused(d[0], elements, contributions);
        }
      }
      write(sums, elements, c + tile.expert * (sizes.out_size * stride), stride, sizes.is_adding);
    }
    contributions.count(refused);
  }
};

}  // namespace
}  // namespace grouped

void grouped_contributions_sm90(const GroupedOperands& operands, const GroupedSizes& sizes,
                                Stream& stream) {
  grouped::launch_tensor_core<grouped::ContributionShape>(
      operands, sizes,
      grouped::PartContributions{reinterpret_cast<std::int64_t*>(operands.c.data),
                                 operands.c.stride, Contributions(*operands.gradient)},
      stream);
}

}  // namespace fathom::kernels::cuda
