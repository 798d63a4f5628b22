#include "parallel/comm/rank_tree.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "core/bfloat16.h"
#include "core/error.h"

namespace fathom::parallel {
namespace {

// Elements worked on at a time: the partial results of all levels stay in the first-level cache.
constexpr std::int64_t kBlock = 512;
constexpr std::int64_t kGrain = 64 * kBlock;
constexpr std::size_t kMaxLevels = 21;  // a million ranks

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

// Contributions of T; what the tree holds between them, a Partial of each.
template <class T>
struct PartialOf {
  using Type = T;
};
template <>
struct PartialOf<BFloat16> {
  using Type = float;
};

template <class T, class Op>
class Tree {
 public:
  using Partial = typename PartialOf<T>::Type;
  explicit Tree(std::span<const std::byte* const> contributions) : contributions_(contributions) {}

  // Elements [begin, begin + n) reduced over all ranks: a pointer into this object or into the only
  // contribution.
  const Partial* reduce(std::int64_t begin, std::int64_t n) {
    return reduce_ranks(0, contributions_.size(), 0, begin, n);
  }

 private:
  static constexpr bool kConverts = !std::is_same_v<T, Partial>;

  const Partial* read(std::size_t rank, std::size_t level, std::int64_t begin, std::int64_t n) {
    const T* terms = reinterpret_cast<const T*>(contributions_[rank]) + begin;
    if constexpr (kConverts) {
      Partial* converted = levels_[level].data();
      std::transform(terms, terms + n, converted, [](T x) { return static_cast<Partial>(x); });
      return converted;
    } else {
      return terms;
    }
  }

  const Partial* reduce_ranks(std::size_t first, std::size_t num_ranks, std::size_t level,
                              std::int64_t begin, std::int64_t n) {
    if (num_ranks == 1) {
      return read(first, level, begin, n);
    }
    std::size_t left_ranks = 1;
    while (left_ranks * 2 < num_ranks) {
      left_ranks *= 2;
    }
    const Partial* left = reduce_ranks(first, left_ranks, level + 1, begin, n);
    Partial* result = levels_[level].data();
    // The right half writes to the levels below, where the left half's result may lie.
    if (left_ranks > 1 || kConverts) {
      std::copy_n(left, n, result);
      left = result;
    }
    const Partial* right =
        reduce_ranks(first + left_ranks, num_ranks - left_ranks, level + 1, begin, n);
    for (std::int64_t i = 0; i < n; ++i) {
      result[i] = Op::apply(left[i], right[i]);
    }
    return result;
  }

  std::span<const std::byte* const> contributions_;
  std::array<std::array<Partial, kBlock>, kMaxLevels> levels_;
};

template <class T>
void store(const typename PartialOf<T>::Type* from, T* to, std::int64_t n) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    std::transform(from, from + n, to, [](float x) { return BFloat16(x); });
  } else {
    // memmove: `to` may be the only contribution.
    std::memmove(to, from, static_cast<std::size_t>(n) * sizeof(T));
  }
}

template <class T, class Op>
void reduce_all(std::span<const std::byte* const> contributions, std::byte* out, std::int64_t count,
                Stream& stream) {
  T* const results = reinterpret_cast<T*>(out);
  stream.parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    Tree<T, Op> tree(contributions);
    for (std::int64_t block = begin; block < end; block += kBlock) {
      const std::int64_t n = std::min(kBlock, end - block);
      store(tree.reduce(block, n), results + block, n);
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
  switch (dtype) {
    case DType::kFloat32:
      return reduce_all<float>(contributions, out, count, op, stream);
    case DType::kBFloat16:
      return reduce_all<BFloat16>(contributions, out, count, op, stream);
    case DType::kInt64:
      return reduce_all<std::int64_t>(contributions, out, count, op, stream);
    case DType::kInt32:
      break;
  }
  throw InternalError(concat("reduction of ", dtype));
}

}  // namespace fathom::parallel
