#include "tests/bench/cuda/bench.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/cuda/check.h"
#include "core/cuda/queue.h"
#include "core/error.h"
#include "core/host_copy.h"
#include "core/pool_allocator.h"
#include "core/rng.h"
#include "kernels/elementwise.h"
#include "kernels/fill_normal.h"
#include "kernels/matmul.h"

namespace fathom::bench {
namespace {

constexpr std::int64_t kFlushBytes = std::int64_t{256} << 20;  // several times the cache

class Event {
 public:
  Event() { check_cuda(cudaEventCreateWithFlags(&event_, 0), "cudaEventCreateWithFlags"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(Stream& stream) {
    check_cuda(cudaEventRecord(event_, cuda_queue(stream).stream()), "cudaEventRecord");
  }
  double microseconds_since(const Event& start) const {
    check_cuda(cudaEventSynchronize(event_), "cudaEventSynchronize");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

double rounded(double value) { return std::round(1e3 * value) / 1e3; }

}  // namespace

Sizes small_sizes() {
  Sizes sizes;
  sizes.tokens = 72;
  sizes.hidden = 64;
  sizes.heads = 2;
  sizes.nope = 16;
  sizes.rope = 8;
  sizes.value = 16;
  sizes.latent = 32;
  sizes.experts = 8;
  sizes.top_k = 2;
  sizes.expert_hidden = 40;
  sizes.shared_hidden = 48;
  sizes.dense_hidden = 80;
  sizes.vocabulary = 200;
  sizes.parameters = 5000;
  sizes.sequences = 5;
  sizes.sequence_tokens = 70;
  sizes.rank_experts = 2;
  sizes.rank_expert_tokens = 40;
  sizes.unit_tokens = 8;
  sizes.ceiling_product = 64;
  sizes.ceiling_copy = 4096;
  return sizes;
}

kernels::AttentionShape attention_shape(const Sizes& sizes) {
  return {.num_heads = static_cast<int>(sizes.heads),
          .nope_size = static_cast<int>(sizes.nope),
          .rope_size = static_cast<int>(sizes.rope),
          .value_size = static_cast<int>(sizes.value),
          .rope_column = static_cast<int>(sizes.latent),
          .scale = 0.07F};
}

Bench::Bench(int num_repeats, std::string only, SumOrder order)
    : stream_(Device{DeviceType::kCuda, 0}, 1, order),
      num_repeats_(num_repeats),
      only_(std::move(only)),
      flush_(Tensor::empty(Shape{num_repeats > 1 ? kFlushBytes / 4 : 1}, DType::kInt32, stream_)) {}

Bench::~Bench() = default;

Tensor Bench::random(const Shape& shape, DType dtype, float scale) {
  Tensor tensor = Tensor::empty(shape, dtype, stream_);
  Tensor row = tensor.reshape(Shape{1, tensor.numel()});
  kernels::fill_normal({.random = RandomSource(1, "bench"), .deviation = scale}, row, stream_);
  return tensor;
}

Tensor Bench::integers(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& value) {
  std::vector<std::int32_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<std::int32_t>(value(i)));
  }
  Tensor tensor = Tensor::empty(Shape{count}, DType::kInt32, stream_);
  from_host<std::int32_t>(values, tensor, stream_);
  return tensor;
}

Tensor Bench::offsets(const std::vector<std::int64_t>& values) {
  Tensor tensor =
      Tensor::empty(Shape{static_cast<std::int64_t>(values.size())}, DType::kInt64, stream_);
  from_host<std::int64_t>(values, tensor, stream_);
  return tensor;
}

kernels::GradientSum Bench::gradient(const Shape& shape, std::int64_t unit_rows) {
  kernels::GradientSum gradient;
  if (!is_exact()) {
    gradient.sum = float32(shape);
    return gradient;
  }
  constexpr std::int64_t kContributions = 1 << 16;  // more than the repeats of a measurement add
  gradient.sum = Tensor::zeros(shape, DType::kInt64, stream_);
  gradient.num_refused = Tensor::zeros(Shape{1}, DType::kInt64, stream_);
  gradient.fraction_bits = 32;  // the numbers here are larger than gradients
  gradient.limit = kernels::contribution_limit(gradient.fraction_bits, kContributions);
  gradient.unit_rows = unit_rows;
  return gradient;
}

std::shared_ptr<Graph> Bench::recorded(const std::function<void()>& body) {
  try {
    return std::make_shared<Graph>(stream_, make_pool_allocator(stream_.allocator()), body);
  } catch (const InternalError&) {
    return nullptr;
  }
}

double Bench::median_microseconds(const std::function<void()>& body) {
  Event start;
  Event end;
  std::vector<double> times;
  body();  // the first use of a shape may choose algorithms
  // Recorded where that is possible, so that the host's time does not show; PyTorch's calls are
  // timed so as well.
  std::function<void()> run = body;
  if (const auto graph = recorded(body)) {
    run = [graph] { graph->launch(); };
  }
  for (int i = 0; i < num_repeats_; ++i) {
    stream_.queue()->fill_zero(flush_.raw(), flush_.size_bytes());
    start.record(stream_);
    run();
    end.record(stream_);
    times.push_back(end.microseconds_since(start));
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

double Bench::floor_microseconds(const Work& work) const {
  return 1e6 * std::max(work.flops / flops_a_second_, work.bytes / bytes_a_second_);
}

void Bench::measure_ceilings(const Sizes& sizes) {
  const auto print = [](const char* what, const std::string& shape, const char* unit, double rate) {
    const nlohmann::ordered_json line = {
        {"op", what}, {"shape", shape}, {unit, rounded(1e-12 * rate)}};
    std::printf("%s\n", line.dump().c_str());
  };
  {
    const Tensor from = random(Shape{sizes.ceiling_copy / 4}, DType::kFloat32);
    Tensor to = Tensor::empty(from.shape(), DType::kFloat32, stream_);
    const double time = median_microseconds([&] { kernels::copy(from, to, stream_); });
    bytes_a_second_ = 1e6 * 2 * static_cast<double>(from.size_bytes()) / time;
    print("ceiling copy", concat(from.size_bytes(), " bytes"), "tbs", bytes_a_second_);
  }
  const std::int64_t edge = sizes.ceiling_product;
  const Tensor x = bfloat16({edge, edge});
  const Tensor w = bfloat16({edge, edge});
  Tensor y = Tensor::empty(x.shape(), DType::kBFloat16, stream_);
  const double time = median_microseconds([&] { kernels::matmul_forward(x, w, y, 1, stream_); });
  flops_a_second_ = 1e6 * 2 * std::pow(static_cast<double>(edge), 3) / time;
  print("ceiling product", concat(edge, "x", edge, "->", edge), "tflops", flops_a_second_);
}

void Bench::time(const std::string& name, const std::string& shape, const Work& work,
                 const std::function<void()>& body) {
  if (name.find(only_) == std::string::npos) {
    return;
  }
  nlohmann::ordered_json line = {{"op", name}, {"shape", shape}};
  try {
    const double time = median_microseconds(body);
    const double floor = floor_microseconds(work);
    line["us"] = rounded(time);
    if (work.flops > 0) {
      line["tflops"] = rounded(1e-6 * work.flops / time);
    }
    line["tbs"] = rounded(1e-6 * work.bytes / time);
    line["floor_us"] = rounded(floor);
    line["share_of_floor"] = rounded(floor / time);
  } catch (const std::exception& error) {
    line["error"] = error.what();
    failed_ = true;
  }
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

}  // namespace fathom::bench
