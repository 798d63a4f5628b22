#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <compare>
#include <cstdint>
#include <limits>
#include <map>
#include <source_location>
#include <string_view>
#include <utility>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/queue.h"
#include "core/error.h"
#include "kernels/cuda/blas.h"

namespace fathom::kernels::cuda {
namespace {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;
constexpr int kNumCandidates = 8;
// What an algorithm is chosen by, when there are several. Those that sum in another order than the
// first are left out: which one is fastest may be noise, and runs shall not differ by it. How much
// of a product is looked at to tell: in less, equal bits prove nothing.
constexpr std::int64_t kMinComparedBytes = std::int64_t{64} << 10;
constexpr std::int64_t kMaxComparedBytes = std::int64_t{1} << 20;
constexpr std::int64_t kMaxScratchBytes = std::int64_t{128} << 20;
constexpr int kNumTimings = 3;

void check_blas(cublasStatus_t status, std::string_view call,
                std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw DeviceError(concat(call, ": ", cublasLtGetStatusName(status), ", ",
                             cublasLtGetStatusString(status), " (", where.file_name(), ':',
                             where.line(), ')'));
  }
}

// Outside the streams' allocators, whose peaks it would change. Null when there is none left. In
// the stream's order: freeing for the whole device would wait for communications that wait for
// other ranks.
class DeviceBytes {
 public:
  DeviceBytes(std::int64_t bytes, CudaQueue& queue) : stream_(queue.stream()) {
    queue.use_device();
    if (cudaMallocAsync(&data_, static_cast<std::size_t>(bytes), stream_) != cudaSuccess) {
      cudaGetLastError();  // it is answered here
      data_ = nullptr;
    }
  }
  ~DeviceBytes() {
    if (data_ != nullptr) {
      cudaFreeAsync(data_, stream_);
    }
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  std::byte* data() const noexcept { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_;
};

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const noexcept { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// The largest power of two, up to 256, that divides the addresses of all matrices of a batch.
std::uint32_t alignment_of(const std::byte* data, std::int64_t batch_stride, DType dtype) {
  constexpr std::uintptr_t kLargest = 256;
  const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(data) |
                              static_cast<std::uintptr_t>(batch_stride * size_of(dtype)) | kLargest;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

std::uint32_t alignment_of(const Factor& factor, DType dtype) {
  return alignment_of(factor.data, factor.batch_stride, dtype);
}

std::uint32_t alignment_of(const Output& output) {
  return alignment_of(output.data, output.batch_stride, output.dtype);
}

// All that an algorithm is chosen by.
struct Key {
  explicit Key(const Product& product)
      : sizes{product.num_rows, product.num_columns, product.inner_size, product.batch_size},
        strides{product.left.stride,       product.right.stride,       product.output.stride,
                product.left.batch_stride, product.right.batch_stride, product.output.batch_stride},
        alignments{alignment_of(product.left, product.factor_dtype),
                   alignment_of(product.right, product.factor_dtype), alignment_of(product.output)},
        dtypes{product.factor_dtype, product.output.dtype},
        flags{product.left.is_transposed, product.right.is_transposed, product.output.is_adding} {}
  auto operator<=>(const Key&) const = default;

  std::array<std::int64_t, 4> sizes;
  std::array<std::int64_t, 6> strides;
  std::array<std::uint32_t, 3> alignments;
  std::array<DType, 2> dtypes;
  std::array<bool, 3> flags;
};

cudaDataType_t cuda_type(DType dtype) {
  FATHOM_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "a product of ", dtype);
  return dtype == DType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

// cuBLASLt thinks in columns, where a row-major matrix is its own transpose. So it is asked for
// D^T = R^T L^T: its factors A and B are our right and left.
struct Plan {
  cublasLtMatmulDescOpaque_t operation{};
  cublasLtMatrixLayoutOpaque_t left{};
  cublasLtMatrixLayoutOpaque_t right{};
  cublasLtMatrixLayoutOpaque_t output{};
  cublasLtMatmulAlgo_t algorithm{};
};

void describe(cublasLtMatrixLayoutOpaque_t& layout, DType dtype, std::int64_t num_rows,
              std::int64_t num_columns, std::int64_t stride) {
  check_blas(
      cublasLtMatrixLayoutInit(&layout, cuda_type(dtype), static_cast<std::uint64_t>(num_columns),
                               static_cast<std::uint64_t>(num_rows), stride),
      "cublasLtMatrixLayoutInit");
}

void describe(cublasLtMatrixLayoutOpaque_t& layout, const Factor& factor, DType dtype,
              std::int64_t num_rows, std::int64_t num_columns) {
  if (factor.is_transposed) {
    std::swap(num_rows, num_columns);
  }
  describe(layout, dtype, num_rows, num_columns, factor.stride);
}

void set_batch(cublasLtMatrixLayoutOpaque_t& layout, std::int64_t batch_size,
               std::int64_t batch_stride) {
  const auto size = static_cast<std::int32_t>(batch_size);
  check_blas(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &size,
                                              sizeof(size)),
             "cublasLtMatrixLayoutSetAttribute");
  check_blas(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                              &batch_stride, sizeof(batch_stride)),
             "cublasLtMatrixLayoutSetAttribute");
}

void set_transposed(Plan& plan, cublasLtMatmulDescAttributes_t attribute, bool is_transposed) {
  const cublasOperation_t operation = is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  check_blas(
      cublasLtMatmulDescSetAttribute(&plan.operation, attribute, &operation, sizeof(operation)),
      "cublasLtMatmulDescSetAttribute");
}

// All but the algorithm.
Plan described(const Product& product) {
  Plan plan;
  check_blas(cublasLtMatmulDescInit(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
             "cublasLtMatmulDescInit");
  set_transposed(plan, CUBLASLT_MATMUL_DESC_TRANSA, product.right.is_transposed);
  set_transposed(plan, CUBLASLT_MATMUL_DESC_TRANSB, product.left.is_transposed);
  describe(plan.left, product.left, product.factor_dtype, product.num_rows, product.inner_size);
  describe(plan.right, product.right, product.factor_dtype, product.inner_size,
           product.num_columns);
  describe(plan.output, product.output.dtype, product.num_rows, product.num_columns,
           product.output.stride);
  if (product.batch_size > 1) {
    set_batch(plan.left, product.batch_size, product.left.batch_stride);
    set_batch(plan.right, product.batch_size, product.right.batch_stride);
    set_batch(plan.output, product.batch_size, product.output.batch_stride);
  }
  return plan;
}

class Preference {
 public:
  explicit Preference(const Product& product) {
    check_blas(cublasLtMatmulPreferenceInit(&preference_), "cublasLtMatmulPreferenceInit");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kWorkspaceBytes));
    // Parts of a sum meet in float32, never rounded to the output's type before.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        alignment_of(product.right, product.factor_dtype));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        alignment_of(product.left, product.factor_dtype));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(product.output));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.output));
  }
  cublasLtMatmulPreference_t get() { return &preference_; }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(&preference_, attribute, &value, sizeof(value)),
               "cublasLtMatmulPreferenceSetAttribute");
  }
  cublasLtMatmulPreferenceOpaque_t preference_{};
};

// cuBLASLt of one queue, with the algorithms it has chosen.
class Blas {
 public:
  explicit Blas(CudaQueue& queue) : queue_(queue), workspace_(kWorkspaceBytes, queue) {
    if (workspace_.data() == nullptr) {
      throw DeviceError(concat("out of memory on cuda:", queue.device(), ": no ", kWorkspaceBytes,
                               " bytes for cuBLASLt"));
    }
    check_blas(cublasLtCreate(&library_), "cublasLtCreate");
  }
  ~Blas() { cublasLtDestroy(library_); }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  void run(const Product& product) {
    queue_.use_device();
    const Key key(product);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      found = plans_.emplace(key, planned(product)).first;
    }
    multiply(found->second, product);
  }

 private:
  Plan planned(const Product& product) {
    Plan plan = described(product);
    const std::vector<cublasLtMatmulAlgo_t> choice = candidates(plan, product);
    plan.algorithm = choice.front();
    const std::int64_t bytes = bytes_of(product);
    if (choice.size() == 1 || bytes < kMinComparedBytes || queue_.is_capturing()) {
      return plan;
    }
    if (!product.output.is_adding) {
      plan.algorithm = fastest(plan, choice, product);  // the output is written again afterwards
    } else if (bytes <= kMaxScratchBytes) {
      const DeviceBytes scratch(bytes, queue_);
      if (scratch.data() != nullptr) {
        Product trial = product;
        trial.output.data = scratch.data();
        plan.algorithm = fastest(plan, choice, trial);
      }
    }
    return plan;
  }

  // From the first byte of the output to behind its last.
  static std::int64_t bytes_of(const Product& product) {
    return ((product.batch_size - 1) * product.output.batch_stride +
            (product.num_rows - 1) * product.output.stride + product.num_columns) *
           size_of(product.output.dtype);
  }

  // Best first, as cuBLASLt judges them.
  std::vector<cublasLtMatmulAlgo_t> candidates(Plan& plan, const Product& product) {
    Preference preference(product);
    std::array<cublasLtMatmulHeuristicResult_t, kNumCandidates> results{};
    int num_found = 0;
    check_blas(cublasLtMatmulAlgoGetHeuristic(library_, &plan.operation, &plan.right, &plan.left,
                                              &plan.output, &plan.output, preference.get(),
                                              kNumCandidates, results.data(), &num_found),
               "cublasLtMatmulAlgoGetHeuristic");
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (int i = 0; i < num_found; ++i) {
      const auto& result = results[static_cast<std::size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) {
        algorithms.push_back(result.algo);
      }
    }
    if (algorithms.empty()) {
      throw DeviceError(concat("cuBLASLt has no algorithm for a product [", product.num_rows, ", ",
                               product.inner_size, "] x [", product.inner_size, ", ",
                               product.num_columns, "], ", product.batch_size, " at once, of ",
                               product.factor_dtype, " to ", product.output.dtype));
    }
    return algorithms;
  }

  // Of those that give the first one's bits. Writes the product's output, of which nothing is kept.
  cublasLtMatmulAlgo_t fastest(Plan plan, const std::vector<cublasLtMatmulAlgo_t>& choice,
                               const Product& product) {
    plan.algorithm = choice.front();
    const std::vector<std::byte> wanted = beginning_of_result(plan, product);
    if (std::ranges::all_of(wanted, [](std::byte byte) { return byte == std::byte{0}; })) {
      return choice.front();  // zeros are the same in every order
    }
    cublasLtMatmulAlgo_t best = choice.front();
    float shortest = milliseconds(plan, product);
    for (std::size_t i = 1; i < choice.size(); ++i) {
      plan.algorithm = choice[i];
      if (beginning_of_result(plan, product) != wanted) {
        continue;
      }
      const float time = milliseconds(plan, product);
      if (time < shortest) {
        shortest = time;
        best = choice[i];
      }
    }
    return best;
  }

  std::vector<std::byte> beginning_of_result(Plan& plan, const Product& product) {
    if (product.output.is_adding) {
      queue_.fill_zero(product.output.data, bytes_of(product));
    }
    multiply(plan, product);
    const std::int64_t bytes = std::min(bytes_of(product), kMaxComparedBytes);
    std::vector<std::byte> result(static_cast<std::size_t>(bytes));
    queue_.copy_to_host(product.output.data, result.data(), bytes);
    return result;
  }

  float milliseconds(Plan& plan, const Product& product) {
    const Event begin;
    const Event end;
    float shortest = std::numeric_limits<float>::infinity();
    for (int i = 0; i < kNumTimings; ++i) {
      check_cuda(cudaEventRecord(begin.get(), queue_.stream()), "cudaEventRecord");
      multiply(plan, product);
      check_cuda(cudaEventRecord(end.get(), queue_.stream()), "cudaEventRecord");
      check_cuda(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
      float time = 0.0F;
      check_cuda(cudaEventElapsedTime(&time, begin.get(), end.get()), "cudaEventElapsedTime");
      shortest = std::min(shortest, time);
    }
    return shortest;
  }

  void multiply(Plan& plan, const Product& product) {
    const float alpha = 1.0F;
    const float beta = product.output.is_adding ? 1.0F : 0.0F;
    check_blas(
        cublasLtMatmul(library_, &plan.operation, &alpha, product.right.data, &plan.right,
                       product.left.data, &plan.left, &beta, product.output.data, &plan.output,
                       product.output.data, &plan.output, &plan.algorithm, workspace_.data(),
                       static_cast<std::size_t>(kWorkspaceBytes), queue_.stream()),
        "cublasLtMatmul");
  }

  CudaQueue& queue_;
  DeviceBytes workspace_;
  cublasLtHandle_t library_ = nullptr;
  std::map<Key, Plan> plans_;
};

}  // namespace

void product(const Product& product, Stream& stream) {
  cuda_queue(stream).state<Blas>().run(product);
}

}  // namespace fathom::kernels::cuda
