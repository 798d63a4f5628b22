#include "core/cuda/launch.cuh"
#include "kernels/cross_entropy.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 512;  // a block takes a row
constexpr int kGroup = 4;      // packs that a thread of row_statistics reads at a time

__device__ __forceinline__ float negative_infinity() { return __int_as_float(0xff800000); }

// What exp(x - base) is taken relative to: where every x is -inf, it is 0 and not NaN.
__device__ __forceinline__ float finite_base(float largest) {
  return largest == negative_infinity() ? 0.0F : largest;
}

template <class T>
__device__ __forceinline__ T* row_of_block(T* rows, std::int64_t num_classes) {
  return rows + std::int64_t{blockIdx.x} * num_classes;
}

// Calls body(first) for the packs of N classes of this thread.
template <int N, class Body>
__device__ __forceinline__ void for_each_pack(std::int64_t num_classes, const Body& body) {
#pragma unroll 4
  for (std::int64_t first = std::int64_t{threadIdx.x} * N; first < num_classes;
       first += std::int64_t{kThreads} * N) {
    body(first);
  }
}

// A thread's next packs of a row; -inf for what lies behind its end.
template <class T, int N>
__device__ __forceinline__ void load_group(const T* row, std::int64_t first,
                                           std::int64_t num_classes, float (&values)[kGroup][N]) {
#pragma unroll
  for (int pack = 0; pack < kGroup; ++pack) {
    const std::int64_t at = first + std::int64_t{pack} * kThreads * N;
    if (at < num_classes) {
      load_floats<N>(row + at, values[pack]);
      continue;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[pack][i] = negative_infinity();
    }
  }
}

// The maximum of a row and, in `sums`, the sum of exp(x - maximum) and once more the maximum, in
// one reading: a thread scales its sum anew for each group of packs. A NaN is overlooked by the
// maximum and makes the sum NaN.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    row_statistics(const T* logits, float* row_max, float* sums, std::int64_t num_classes) {
  const T* row = row_of_block(logits, num_classes);
  float largest = negative_infinity();
  float sum = 0.0F;
  for (std::int64_t first = std::int64_t{threadIdx.x} * N; first < num_classes;
       first += std::int64_t{kThreads} * N * kGroup) {
    float values[kGroup][N];
    load_group(row, first, num_classes, values);
    const float before = largest;
#pragma unroll
    for (int pack = 0; pack < kGroup; ++pack) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        largest = fmaxf(largest, values[pack][i]);
      }
    }
    const float base = finite_base(largest);
    sum *= expf(before - base);
#pragma unroll
    for (int pack = 0; pack < kGroup; ++pack) {
      float of_pack = 0.0F;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        of_pack += expf(values[pack][i] - base);
      }
      sum += of_pack;
    }
  }
  const float of_row = reduce_block<Max, kThreads>(largest, negative_infinity());
  sum = reduce_block<Sum, kThreads>(sum * expf(largest - finite_base(of_row)), 0.0F);
  if (threadIdx.x == 0) {
    row_max[blockIdx.x] = of_row;
    sums[blockIdx.x] = sum;
    sums[gridDim.x + blockIdx.x] = of_row;
  }
}

template <class T>
struct ExpSum {
  const T* logits;
  const std::int32_t* targets;
  const float* row_max;
  float* sums;
  std::int64_t num_tokens;
  std::int64_t num_classes;
  std::int64_t first_class;

  // The target's logit - row_max, 0 where the class is another rank's.
  __device__ __forceinline__ float of_target(std::int64_t token) const {
    const std::int64_t local = targets[token] - first_class;
    const bool is_here = local >= 0 && local < num_classes;
    return is_here ? to_float(logits[token * num_classes + local]) - row_max[token] : 0.0F;
  }
};

// The sums of row_statistics relative to the maximum of all ranks, and the targets' logits.
template <class T>
__global__ void __launch_bounds__(kThreads) exp_sum(ExpSum<T> task) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token >= task.num_tokens) {
    return;
  }
  float* const row_sum = task.sums + token;
  // Of this rank: row_statistics has put it there.
  float* const largest = row_sum + task.num_tokens;
  *row_sum *= expf(*largest - task.row_max[token]);
  *largest = task.of_target(token);
}

// --- The sums of SumOrder::kFixed: what a class adds, and when, is known from its place in its
// chunk. row_statistics gives the maximum alone then: its sums are relative to what this rank has.

constexpr int kUnit = 8;  // neighbours that a thread adds before it adds them to its sum
constexpr int kMaxLevels = 31;

// Of exp(x - largest) over the N neighbours.
template <int N>
__device__ __forceinline__ float exp_sum_of(const float (&x)[N], float largest) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum = __fadd_rn(sum, expf(x[i] - largest));  // never fused with the last product of expf
  }
  return sum;
}

// The thread's part of a chunk, whose units go to the threads in turn; by accesses of kPiece.
template <class T, int kPiece>
__device__ __forceinline__ float exp_sum_of_thread(const T* chunk, std::int64_t size,
                                                   float largest) {
  constexpr std::int64_t kStride = std::int64_t{kThreads} * kUnit;
  float sum = 0.0F;
  std::int64_t first = std::int64_t{threadIdx.x} * kUnit;
#pragma unroll 2
  for (; first + kUnit <= size; first += kStride) {
    float values[kUnit];
    load_pieces<kPiece>(chunk + first, values);
    sum += exp_sum_of(values, largest);
  }
  if (first < size) {  // what no unit holds
    float values[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      values[i] = first + i < size ? to_float(chunk[first + i]) : negative_infinity();
    }
    sum += exp_sum_of(values, largest);
  }
  return sum;
}

// A block takes a row, chunk after chunk. The sums that wait for their right neighbours in the tree
// lie in shared memory, that of 2^l chunks at place l.
template <class T, int kPiece>
__global__ void __launch_bounds__(kThreads) exp_sum_tree(ExpSum<T> task, unsigned num_chunks) {
  __shared__ float left[kMaxLevels];
  const float largest = task.row_max[blockIdx.x];
  const std::int64_t chunk_size = task.num_classes / num_chunks;
  const T* row = row_of_block(task.logits, task.num_classes);
  for (unsigned chunk = 0; chunk < num_chunks; ++chunk) {
    float sum = exp_sum_of_thread<T, kPiece>(row + chunk * chunk_size, chunk_size, largest);
    sum = reduce_block<Sum, kThreads>(sum, 0.0F);
    if (threadIdx.x == 0) {
      int level = 0;
      for (; (chunk >> level & 1U) != 0; ++level) {
        sum = left[level] + sum;
      }
      left[level] = sum;
    }
  }
  if (threadIdx.x == 0) {
    const int root = 31 - __clz(static_cast<int>(num_chunks));
    task.sums[blockIdx.x] = left[root];
    task.sums[task.num_tokens + blockIdx.x] = task.of_target(blockIdx.x);
  }
}

__global__ void __launch_bounds__(kThreads)
    token_loss(const float* sums, const float* mask, float* loss, std::int64_t num_tokens) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token < num_tokens) {
    loss[token] = mask[token] == 0.0F ? 0.0F : logf(sums[token]) - sums[num_tokens + token];
  }
}

template <class T>
struct Backward {
  T* logits;
  const std::int32_t* targets;
  const float* weights;
  const float* row_max;
  const float* sums;
  std::int64_t num_classes;
  std::int64_t first_class;
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads) backward(Backward<T> task) {
  T* row = row_of_block(task.logits, task.num_classes);
  const float weight = task.weights[blockIdx.x];
  if (weight == 0.0F) {  // whatever the logits
    for_each_pack<N>(task.num_classes, [&](std::int64_t first) {
      const float zeros[N] = {};
      store_floats<N>(zeros, row + first);
    });
    return;
  }
  const float factor = weight / task.sums[blockIdx.x];
  const float largest = task.row_max[blockIdx.x];
  const std::int64_t target = task.targets[blockIdx.x] - task.first_class;
  for_each_pack<N>(task.num_classes, [&](std::int64_t first) {
    float values[N];
    load_floats<N>(row + first, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[i] = __fmul_rn(expf(values[i] - largest), factor);  // never fused with what follows
    }
    if (target >= first && target < first + N) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        values[i] = __fsub_rn(values[i], first + i == target ? weight : 0.0F);
      }
    }
    store_floats<N>(values, row + first);
  });
}

// Calls body(TypeTag<T>(), count) for the T of the logits and the std::integral_constant count of
// classes that a thread takes at once; not for logits without rows.
template <class Body>
void with_packs(const Tensor& logits, const Body& body) {
  if (logits.size(0) == 0) {
    return;
  }
  with_activation_type(logits.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(logits.size(1), {logits.raw()})) {
      body(tag, std::integral_constant<int, kPackSize<T>>());
    } else {
      body(tag, std::integral_constant<int, 1>());
    }
  });
}

void row_max_cuda(const Tensor& logits, Tensor& row_max, Tensor& sums, Stream& stream) {
  with_packs(logits, [&](auto tag, auto count) {
    using T = typename decltype(tag)::type;
    launch(row_statistics<T, count()>, {logits.size(0), kThreads}, stream, device_data<T>(logits),
           device_data<float>(row_max), device_data<float>(sums), logits.size(1));
  });
}

template <class T>
void launch_exp_sum_tree(const ExpSum<T>& task, int num_chunks, Stream& stream) {
  const bool takes_packs = fits_packs<T>(task.num_classes / num_chunks, {task.logits});
  launch(takes_packs ? exp_sum_tree<T, kPackSize<T>> : exp_sum_tree<T, 1>,
         {task.num_tokens, kThreads}, stream, task, num_chunks);
}

void exp_sum_cuda(Tensor& logits, const CrossEntropyClasses& classes, const Tensor& row_max,
                  Tensor& sums, Stream& stream) {
  with_activation_type(logits.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const ExpSum<T> task{device_data<T>(logits),
                         device_data<std::int32_t>(classes.targets),
                         device_data<float>(row_max),
                         device_data<float>(sums),
                         logits.size(0),
                         logits.size(1),
                         classes.first_class};
    if (stream.sum_order() == SumOrder::kFixed) {
      launch_exp_sum_tree(task, classes.num_chunks, stream);
      return;
    }
    launch(exp_sum<T>, {blocks_for(logits.size(0), kThreads), kThreads}, stream, task);
  });
}

void loss_cuda(const Tensor& sums, const Tensor& mask, Tensor& loss, Stream& stream) {
  launch(token_loss, {blocks_for(loss.numel(), kThreads), kThreads}, stream,
         device_data<float>(sums), device_data<float>(mask), device_data<float>(loss),
         loss.numel());
}

void backward_cuda(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                   Stream& stream) {
  with_packs(logits, [&](auto tag, auto count) {
    using T = typename decltype(tag)::type;
    const Backward<T> task{device_data<T>(logits),
                           device_data<std::int32_t>(rows.targets),
                           device_data<float>(rows.weights),
                           device_data<float>(rows.row_max),
                           device_data<float>(rows.sums),
                           logits.size(1),
                           first_class};
    launch(backward<T, count()>, {logits.size(0), kThreads}, stream, task);
  });
}

const KernelRegistration register_row_max(cross_entropy_row_max_slot, DeviceType::kCuda,
                                          row_max_cuda);
const KernelRegistration register_exp_sum(cross_entropy_exp_sum_slot, DeviceType::kCuda,
                                          exp_sum_cuda);
const KernelRegistration register_loss(cross_entropy_loss_slot, DeviceType::kCuda, loss_cuda);
const KernelRegistration register_backward(cross_entropy_backward_slot, DeviceType::kCuda,
                                           backward_cuda);

}  // namespace
}  // namespace fathom::kernels
