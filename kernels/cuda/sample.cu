#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/sample.h"

namespace fathom::kernels {
namespace {

using namespace cuda;
using Word = unsigned long long;  // what 64-bit atomics take

constexpr int kThreads = 512;  // a block takes a row
constexpr int kWarps = kThreads / kWarpSize;
constexpr std::int32_t kNoToken = -1;
constexpr std::int64_t kMaxIds = std::int64_t{1} << 24;  // of a vocabulary

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// --- The order of ids: by logit, then the lowest first. A larger rank comes before a smaller one,
// and no two ids have the same.

// NaN has no place in it: such rows are not drawn from.
__device__ __forceinline__ Word rank_of(float logit, std::int64_t id) {
  const unsigned bits = __float_as_uint(logit + 0.0F);  // -0 becomes 0
  const unsigned ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<Word>(ordered) << 32 | ~static_cast<unsigned>(id);
}
__device__ __forceinline__ std::int32_t id_of(Word rank) {
  return static_cast<std::int32_t>(~static_cast<unsigned>(rank));
}

// --- One row

struct Row {
  const float* logits;
  std::int64_t vocab_size;
  std::int64_t num_allowed;

  // Calls body(id) for this thread's ids that may be drawn.
  template <class Body>
  __device__ __forceinline__ void for_each_allowed(const Body& body) const {
#pragma unroll 4
    for (std::int64_t id = threadIdx.x; id < num_allowed; id += kThreads) {
      body(id);
    }
  }
};

// The likeliest allowed id, its rank; 0 when the row has NaN or +inf or no allowed id above -inf.
__device__ Word likeliest_rank(const Row& row) {
  Word best = 0;
  row.for_each_allowed([&](std::int64_t id) {
    const float logit = row.logits[id];
    best = logit > -infinity() ? Max::of(best, rank_of(logit, id)) : best;
  });
  int is_unsound = 0;
  for (std::int64_t id = threadIdx.x; id < row.vocab_size; id += kThreads) {
    is_unsound |= row.logits[id] < infinity() ? 0 : 1;  // NaN too
  }
  best = reduce_block<Max, kThreads>(best, Word{0});
  is_unsound = reduce_block<Max, kThreads>(is_unsound, 0);
  return is_unsound != 0 ? 0 : best;
}

// --- Cuts to the first ids of the order

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
using Histogram = Word[kWarps][kDigits];

// The digit in which the sum of the masses, from the largest digit down, reaches the target: all
// threads get it, and the target becomes what remains for that digit.
__device__ int digit_of_target(const Histogram& histogram, Word& target) {
  static_assert(kThreads >= kDigits);
  __shared__ int found;
  __shared__ Word remaining;
  __syncthreads();  // the histogram is complete
  const int digit = kDigits - 1 - static_cast<int>(threadIdx.x);
  Word mass = 0;
  for (int warp = 0; digit >= 0 && warp < kWarps; ++warp) {
    mass += histogram[warp][digit];
  }
  const Word sum = inclusive_scan_block<kThreads>(mass);
  if (sum >= target && sum - mass < target) {
    found = digit;
    remaining = target - (sum - mass);
  }
  __syncthreads();
  target = remaining;
  return found;
}

// The rank of the last id of the shortest list, in the order of ids, whose masses add up to
// `target`; 1 <= target <= the sum of all. A radix selection, from the rank's highest digit down;
// masses are integers, so that their sums do not depend on the order of the atomics.
template <class Mass>
__device__ Word rank_at_target(const Row& row, Word target, Histogram& histogram,
                               const Mass& mass) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  Word prefix = 0;
  for (int shift = 64 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    if (shift == 24) {  // ids have at most 24 bits
      prefix |= Word{0xff} << shift;
      continue;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kWarps * kDigits; i += kThreads) {
      (&histogram[0][0])[i] = 0;
    }
    __syncthreads();
    const Word above = shift == 64 - kDigitBits ? 0 : ~Word{0} << (shift + kDigitBits);
    row.for_each_allowed([&](std::int64_t id) {
      const Word rank = rank_of(row.logits[id], id);
      if ((rank & above) == prefix) {
        const Word here = mass(row.logits[id], rank);
        if (here != 0) {
          atomicAdd(&histogram[warp][rank >> shift & (kDigits - 1)], here);
        }
      }
    });
    prefix |= static_cast<Word>(digit_of_target(histogram, target)) << shift;
  }
  return prefix;
}

__device__ __forceinline__ Word weight_of(float logit, float largest) {
  return static_cast<Word>(__float2ll_rn(expf(logit - largest) * 0x1p40F));
}

// The last rank that top_k and top_p leave.
__device__ Word last_rank(const Row& row, const SamplingOptions& options, float largest) {
  __shared__ Histogram histogram;
  Word last = 0;
  if (options.top_k > 0 && options.top_k < row.num_allowed) {
    last = rank_at_target(row, static_cast<Word>(options.top_k), histogram,
                          [](float, Word) { return Word{1}; });
  }
  if (options.top_p < 1.0F) {
    const auto weight = [&](float logit, Word rank) {
      return rank >= last ? weight_of(logit, largest) : 0;
    };
    Word total = 0;
    row.for_each_allowed(
        [&](std::int64_t id) { total += weight(row.logits[id], rank_of(row.logits[id], id)); });
    total = reduce_block<Sum, kThreads>(total, Word{0});
    const double share = static_cast<double>(options.top_p) * static_cast<double>(total);
    const auto target = static_cast<Word>(ceil(share));
    last = rank_at_target(row, target == 0 ? 1 : target, histogram, weight);
  }
  return last;
}

// --- The draw

// A row of the keys.
struct Key {
  std::uint32_t random[2];
  std::uint64_t position;
};
static_assert(sizeof(Key) == 2 * sizeof(std::int64_t));

// The largest sum of logit and noise so far.
struct Race {
  double best = -static_cast<double>(infinity());
  std::int32_t winner = 0x7fffffff;

  __device__ __forceinline__ void enter(double sum, std::int32_t id) {
    if (sum > best || (sum == best && id < winner)) {
      best = sum;
      winner = id;
    }
  }
};

__device__ __forceinline__ double noisy(float logit, Word bits) {
  return static_cast<double>(logit) - log(-log(uniform_of(bits)));
}

// What noisy() does not exceed by more than a little, for a fraction of its time:
// -log(-log(u)) <= -log(1 - u).
__device__ __forceinline__ float bound_of(float logit, Word bits) {
  // At most 1 - u, or 0.
  const float rest = static_cast<float>(static_cast<int>(~static_cast<unsigned>(bits >> 32) >> 1));
  return logit - logf(rest * 0x1p-31F);
}

// The winner among the ids of at least the rank `last`.
__device__ std::int32_t draw(const Row& row, const Key& key, Word likeliest, Word last) {
  const uint2 random = make_uint2(key.random[0], key.random[1]);
  const std::uint64_t first_index = key.position * static_cast<std::uint64_t>(row.vocab_size);
  const std::int32_t first = id_of(likeliest);
  Race race;  // the likeliest is never cut off; a good start spares the others most
  race.enter(noisy(row.logits[first], random_bits(random, first_index + first)), first);
  row.for_each_allowed([&](std::int64_t id) {
    const float logit = row.logits[id];
    if (rank_of(logit, id) < last) {
      return;
    }
    const Word bits = random_bits(random, first_index + id);
    const double slack = 1e-3 + 1e-6 * fabs(race.best);
    if (bound_of(logit, bits) >= static_cast<float>(race.best - slack)) {
      race.enter(noisy(logit, bits), static_cast<std::int32_t>(id));
    }
  });
  const double best = reduce_block<Max, kThreads>(race.best, -static_cast<double>(infinity()));
  const int candidate = race.best == best ? -race.winner : -0x7fffffff;
  return -reduce_block<Max, kThreads>(candidate, -0x7fffffff);
}

struct Sampling {
  SamplingOptions options;
  const Key* keys;  // not read at temperature 0
  const float* logits;
  std::int32_t* tokens;
  std::int64_t vocab_size;
  std::int64_t num_allowed;
};

__global__ void __launch_bounds__(kThreads) sample(Sampling task) {
  const Row row{task.logits + blockIdx.x * task.vocab_size, task.vocab_size, task.num_allowed};
  const Word likeliest = likeliest_rank(row);
  std::int32_t token = likeliest == 0 ? kNoToken : id_of(likeliest);
  if (likeliest != 0 && task.options.temperature > 0.0F) {
    const Word last = last_rank(row, task.options, row.logits[token]);
    token = draw(row, task.keys[blockIdx.x], likeliest, last);
  }
  if (threadIdx.x == 0) {
    task.tokens[blockIdx.x] = token;
  }
}

void sample_tokens_cuda(const SamplingOptions& options, const Tensor& keys,
                        std::int64_t num_allowed, const Tensor& logits, Tensor& tokens,
                        Stream& stream) {
  FATHOM_CHECK(logits.size(1) <= kMaxIds, logits.size(1), " ids: CUDA draws from up to ", kMaxIds);
  const Sampling task{options,
                      reinterpret_cast<const Key*>(keys.raw()),
                      device_data<float>(logits),
                      device_data<std::int32_t>(tokens),
                      logits.size(1),
                      num_allowed};
  launch(sample, {logits.size(0), kThreads}, stream, task);
}

const KernelRegistration register_sample_tokens(sample_tokens_slot, DeviceType::kCuda,
                                                sample_tokens_cuda);

}  // namespace
}  // namespace fathom::kernels
