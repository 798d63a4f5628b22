#include "core/cuda/launch.cuh"
#include "kernels/cross_entropy.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 512;  // a block takes a row

__device__ __forceinline__ float negative_infinity() { return __int_as_float(0xff800000); }

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

// A NaN may be overlooked here: it makes the row's sum NaN later.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    row_max(const T* logits, float* largest, std::int64_t num_classes) {
  const T* row = row_of_block(logits, num_classes);
  float here = negative_infinity();
  for_each_pack<N>(num_classes, [&](std::int64_t first) {
    float values[N];
    load_floats<N>(row + first, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      here = Max::of(here, values[i]);
    }
  });
  here = reduce_block<Max, kThreads>(here, negative_infinity());
  if (threadIdx.x == 0) {
    largest[blockIdx.x] = here;
  }
}

template <class T>
struct ExpSum {
  T* logits;
  const std::int32_t* targets;
  const float* row_max;
  float* row_sum;
  float* target_logit;
  std::int64_t num_classes;
  std::int64_t first_class;
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads) exp_sum(ExpSum<T> task) {
  T* row = row_of_block(task.logits, task.num_classes);
  const float largest = task.row_max[blockIdx.x];
  if (threadIdx.x == 0) {
    const std::int64_t local = task.targets[blockIdx.x] - task.first_class;
    const bool is_here = local >= 0 && local < task.num_classes;
    task.target_logit[blockIdx.x] = is_here ? to_float(row[local]) - largest : 0.0F;
  }
  __syncthreads();  // the target's logit has been read
  float sum = 0.0F;
  for_each_pack<N>(task.num_classes, [&](std::int64_t first) {
    float values[N];
    load_floats<N>(row + first, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[i] = expf(values[i] - largest);
      sum += values[i];
    }
    store_floats<N>(values, row + first);
  });
  sum = reduce_block<Sum, kThreads>(sum, 0.0F);
  if (threadIdx.x == 0) {
    task.row_sum[blockIdx.x] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    token_loss(const float* row_sum, const float* target_logit, const float* mask, float* loss,
               std::int64_t num_tokens) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token < num_tokens) {
    loss[token] = mask[token] == 0.0F ? 0.0F : logf(row_sum[token]) - target_logit[token];
  }
}

template <class T>
struct Backward {
  T* logits;
  const std::int32_t* targets;
  const float* weights;
  const float* row_sum;
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
  const float factor = weight / task.row_sum[blockIdx.x];
  const std::int64_t target = task.targets[blockIdx.x] - task.first_class;
  for_each_pack<N>(task.num_classes, [&](std::int64_t first) {
    float values[N];
    load_floats<N>(row + first, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[i] *= factor;
      values[i] -= first + i == target ? weight : 0.0F;
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

void row_max_cuda(const Tensor& logits, Tensor& largest, Stream& stream) {
  with_packs(logits, [&](auto tag, auto count) {
    using T = typename decltype(tag)::type;
    launch(row_max<T, count()>, {logits.size(0), kThreads}, stream, device_data<T>(logits),
           device_data<float>(largest), logits.size(1));
  });
}

void exp_sum_cuda(Tensor& logits, const CrossEntropyClasses& classes, const Tensor& row_max,
                  Tensor& row_sum, Tensor& target_logit, Stream& stream) {
  with_packs(logits, [&](auto tag, auto count) {
    using T = typename decltype(tag)::type;
    const ExpSum<T> task{device_data<T>(logits),
                         device_data<std::int32_t>(classes.targets),
                         device_data<float>(row_max),
                         device_data<float>(row_sum),
                         device_data<float>(target_logit),
                         logits.size(1),
                         classes.first_class};
    launch(exp_sum<T, count()>, {logits.size(0), kThreads}, stream, task);
  });
}

void loss_cuda(const Tensor& row_sum, const Tensor& target_logit, const Tensor& mask, Tensor& loss,
               Stream& stream) {
  launch(token_loss, {blocks_for(loss.numel(), kThreads), kThreads}, stream,
         device_data<float>(row_sum), device_data<float>(target_logit), device_data<float>(mask),
         device_data<float>(loss), loss.numel());
}

void backward_cuda(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                   Stream& stream) {
  with_packs(logits, [&](auto tag, auto count) {
    using T = typename decltype(tag)::type;
    const Backward<T> task{device_data<T>(logits),
                           device_data<std::int32_t>(rows.targets),
                           device_data<float>(rows.weights),
                           device_data<float>(rows.row_sum),
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
