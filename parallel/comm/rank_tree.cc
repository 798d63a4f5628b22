#include "parallel/comm/rank_tree.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"

namespace fathom::parallel {
namespace {

// Elements worked on at a time: the partial results of all levels stay in the first-level cache.
constexpr std::int64_t kBlock = 512;
constexpr std::int64_t kGrain = 64 * kBlock;
constexpr std::size_t kMaxLevels = 20;  // more than a million ranks

struct Sum {
  template <class T>
  static T apply(T a, T b) {
    return a + b;
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return a > b || a != a ? a : b;  // a NaN on either side wins
  }
};

template <class T, class Op>
class Tree {
 public:
  explicit Tree(std::span<const std::byte* const> contributions) : contributions_(contributions) {}

  // Elements [begin, begin + n) reduced over all ranks: a pointer into this object or into the only
  // contribution.
  const T* reduce(std::int64_t begin, std::int64_t n) {
    return reduce_ranks(0, contributions_.size(), 0, begin, n);
  }

 private:
  const T* reduce_ranks(std::size_t first, std::size_t num_ranks, std::size_t level,
                        std::int64_t begin, std::int64_t n) {
    if (num_ranks == 1) {
      return reinterpret_cast<const T*>(contributions_[first]) + begin;
    }
    std::size_t left_ranks = 1;
    while (left_ranks * 2 < num_ranks) {
      left_ranks *= 2;
    }
    const T* left = reduce_ranks(first, left_ranks, level + 1, begin, n);
    T* result = levels_[level].data();
    // The right half writes to the levels below, where the left half's result may lie.
    if (left_ranks > 1) {
      std::copy_n(left, n, result);
      left = result;
    }
    const T* right = reduce_ranks(first + left_ranks, num_ranks - left_ranks, level + 1, begin, n);
    for (std::int64_t i = 0; i < n; ++i) {
      result[i] = Op::apply(left[i], right[i]);
    }
    return result;
  }

  std::span<const std::byte* const> contributions_;
  std::array<std::array<T, kBlock>, kMaxLevels> levels_;
};

template <class T, class Op>
void reduce_all(std::span<const std::byte* const> contributions, std::byte* out, std::int64_t count,
                Stream& stream) {
  T* const results = reinterpret_cast<T*>(out);
  stream.parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    Tree<T, Op> tree(contributions);
    for (std::int64_t block = begin; block < end; block += kBlock) {
      const std::int64_t n = std::min(kBlock, end - block);
      // memmove: `out` may be the only contribution.
      std::memmove(results + block, tree.reduce(block, n), static_cast<std::size_t>(n) * sizeof(T));
    }
  });
}

template <class T>
void reduce_all(std::span<const std::byte* const> contributions, std::byte* out, std::int64_t count,
                ReduceOp op, Stream& stream) {
  if (op == ReduceOp::kSum) {
    reduce_all<T, Sum>(contributions, out, count, stream);
  } else {
    reduce_all<T, Max>(contributions, out, count, stream);
  }
}

}  // namespace

void reduce_over_ranks(std::span<const std::byte* const> contributions, std::byte* out,
                       std::int64_t count, DType dtype, ReduceOp op, Stream& stream) {
  FATHOM_CHECK(dtype == DType::kFloat32 || dtype == DType::kInt64, "reduction of ", dtype);
  if (dtype == DType::kFloat32) {
    reduce_all<float>(contributions, out, count, op, stream);
  } else {
    reduce_all<std::int64_t>(contributions, out, count, op, stream);
  }
}

}  // namespace fathom::parallel
