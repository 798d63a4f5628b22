#include "kernels/attention.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

struct Outputs {
  Tensor out, lse, dq, dkv, dlatent;
};

// Inputs of one call on the CPU, as `dtype` allows them.
struct AttentionCase {
  AttentionCase(const AttentionShape& attention, const std::vector<std::int32_t>& segment_starts,
                DType activation_dtype, Devices& given)
      : shape(attention),
        starts(segment_starts),
        dtype(activation_dtype),
        devices(given),
        num_tokens(starts.back()),
        q(make({num_tokens, shape.num_heads * (shape.nope_size + shape.rope_size)}, "q")),
        kv(make({num_tokens, shape.num_heads * (shape.nope_size + shape.value_size)}, "kv")),
        latent(make({num_tokens, shape.rope_column + shape.rope_size + kExtraColumns}, "latent")),
        dout(make({num_tokens, shape.num_heads * shape.value_size}, "dout")),
        dlatent(make(latent.shape(), "old dlatent")),
        segments(tensor_of(starts, Shape{static_cast<std::int64_t>(starts.size())}, devices.cpu)) {}

  Tensor make(const Shape& tensor_shape, const char* name) {
    return devices.rounded(random_tensor(tensor_shape, name, devices.cpu), dtype);
  }
  std::int64_t max_segment_tokens() const {
    std::int32_t longest = 0;
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      longest = std::max(longest, starts[i + 1] - starts[i]);
    }
    return longest;
  }

  Outputs on_cpu() {
    const auto empty = [&](const Tensor& like) {
      return Tensor::empty(like.shape(), DType::kFloat32, devices.cpu);
    };
    Outputs result{empty(dout),
                   Tensor::empty({num_tokens, shape.num_heads}, DType::kFloat32, devices.cpu),
                   empty(q), empty(kv), devices.rounded(dlatent, dtype)};
    run({q, kv, latent, segments}, dout, result, devices.cpu, devices.cpu);
    return result;
  }
  Outputs on_cuda() { return on_cuda(devices.cuda); }
  Outputs on_cuda(Stream& backward) {
    Outputs result{devices.empty(dout.shape(), dtype),
                   devices.empty({num_tokens, shape.num_heads}, DType::kFloat32),
                   devices.empty(q.shape(), dtype), devices.empty(kv.shape(), dtype),
                   devices.to_cuda(dlatent, dtype)};
    const Tensor there[] = {devices.to_cuda(q, dtype), devices.to_cuda(kv, dtype),
                            devices.to_cuda(latent, dtype), devices.to_cuda(segments)};
    run({there[0], there[1], there[2], there[3], max_segment_tokens()},
        devices.to_cuda(dout, dtype), result, devices.cuda, backward);
    return result;
  }
  void run(const AttentionInputs& inputs, const Tensor& gradient, Outputs& result, Stream& forward,
           Stream& backward) const {
    attention_forward(shape, inputs, result.out, result.lse, forward);
    forward.synchronize();
    attention_backward(shape, {inputs, result.out, result.lse}, gradient, result.dq, result.dkv,
                       result.dlatent, backward);
    backward.synchronize();
  }

  static constexpr std::int64_t kExtraColumns = 8;
  AttentionShape shape;
  std::vector<std::int32_t> starts;
  DType dtype;
  Devices& devices;
  std::int64_t num_tokens;
  Tensor q, kv, latent, dout, dlatent, segments;
};

// The largest difference relative to the largest magnitude wanted, or to 1.
double error_of(const Tensor& found, const Tensor& want, Devices& devices) {
  double scale = 1.0;
  for (const float number : want.values<float>()) {
    scale = std::max(scale, static_cast<double>(std::abs(number)));
  }
  const Tensor here = devices.to_cpu(found);
  double error = 0.0;
  for (std::size_t i = 0; i < here.values<float>().size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(here.values<float>()[i]) - want.values<float>()[i]);
    error = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                   : std::max(error, difference);
  }
  return error / scale;
}

constexpr AttentionShape kEven{.num_heads = 2,
                               .nope_size = 32,
                               .rope_size = 16,
                               .value_size = 32,
                               .rope_column = 8,
                               .scale = 0.14433757F};
constexpr AttentionShape kOdd{.num_heads = 3,
                              .nope_size = 13,
                              .rope_size = 6,
                              .value_size = 21,
                              .rope_column = 3,
                              .scale = 0.3F};
constexpr AttentionShape kLarge{.num_heads = 2,
                                .nope_size = 128,
                                .rope_size = 64,
                                .value_size = 128,
                                .rope_column = 512,
                                .scale = 0.0721687F};
constexpr AttentionShape kLargest{.num_heads = 1,
                                  .nope_size = 193,
                                  .rope_size = 63,
                                  .value_size = 256,
                                  .rope_column = 0,
                                  .scale = 0.06F};

}  // namespace

TEST_CASE("Attention and its gradients on CUDA are those of the CPU") {
  struct Given {
    AttentionShape shape;
    std::vector<std::int32_t> starts;
  };
  const auto given = GENERATE(values<Given>({{kEven, {0}},
                                             {kEven, {0, 1}},
                                             {kEven, {0, 64, 128}},
                                             {kEven, {0, 1, 2, 67, 67, 140}},
                                             {kOdd, {0, 63, 97, 98, 150}},
                                             {kLarge, {0, 50, 100}},
                                             {kLargest, {0, 5, 40}}}));
  struct Order {
    DType dtype;
    bool is_deterministic;
    SumOrder sum_order;
  };
  const auto [dtype, is_deterministic, sum_order] =
      GENERATE(values<Order>({{DType::kFloat32, true, SumOrder::kFastest},
                              {DType::kBFloat16, true, SumOrder::kFastest},
                              {DType::kBFloat16, false, SumOrder::kFastest},
                              {DType::kBFloat16, true, SumOrder::kFixed}}));
  Devices devices{Stream(), Stream(Device{DeviceType::kCuda, 0}, 1, sum_order)};
  AttentionShape shape = given.shape;
  shape.is_deterministic = is_deterministic;
  AttentionCase tested(shape, given.starts, dtype, devices);
  const Outputs want = tested.on_cpu();
  const Outputs found = tested.on_cuda();
  INFO(dtype << (is_deterministic ? "" : ", sums in any order") << ", heads of "
             << given.shape.value_size << ", tokens " << tested.num_tokens);
  // In bfloat16 the weights of the products are rounded too.
  const double limit = dtype == DType::kBFloat16 ? 1.0 / 100 : 4e-6;
  CHECK(error_of(found.out, want.out, devices) < limit);
  CHECK(error_of(found.lse, want.lse, devices) < 4e-6);
  CHECK(error_of(found.dq, want.dq, devices) < limit);
  CHECK(error_of(found.dkv, want.dkv, devices) < limit);
  CHECK(error_of(found.dlatent, want.dlatent, devices) < limit);
  // The columns of dlatent that are not k_rope keep what they held.
  const Tensor here = devices.to_cpu(found.dlatent);
  const std::int64_t columns = here.size(1);
  for (std::int64_t i = 0; i < here.numel(); ++i) {
    if (i % columns < given.shape.rope_column ||
        i % columns >= given.shape.rope_column + given.shape.rope_size) {
      REQUIRE(here.data<float>()[i] == tested.dlatent.data<float>()[i]);
    }
  }
}

// As where the scratch of cuDNN's backward would be too large (kernels/cuda/attention_scratch.h).
TEST_CASE("Attention's own backward takes the library's forward") {
  Devices devices;
  Stream fixed(Device{DeviceType::kCuda, 0}, 1, SumOrder::kFixed);
  AttentionCase tested(kLarge, {0, 50, 100}, DType::kBFloat16, devices);
  const Outputs want = tested.on_cpu();
  const Outputs found = tested.on_cuda(fixed);
  CHECK(error_of(found.lse, want.lse, devices) < 4e-6);
  CHECK(error_of(found.dq, want.dq, devices) < 1.0 / 100);
  CHECK(error_of(found.dkv, want.dkv, devices) < 1.0 / 100);
  CHECK(error_of(found.dlatent, want.dlatent, devices) < 1.0 / 100);
}

TEST_CASE("Attention on CUDA gives the same bits each time") {
  Devices devices;
  AttentionCase tested(kEven, {0, 50, 120}, DType::kBFloat16, devices);
  const Outputs first = tested.on_cuda();
  const Outputs second = tested.on_cuda();
  const auto bits = [&](const Tensor& tensor) { return bytes_of(devices.to_cpu(tensor)); };
  CHECK(bits(first.out) == bits(second.out));
  CHECK(bits(first.dq) == bits(second.dq));
  CHECK(bits(first.dkv) == bits(second.dkv));
  CHECK(bits(first.dlatent) == bits(second.dlatent));
}

TEST_CASE("Attention on CUDA refuses heads that it has no kernel for") {
  Devices devices;
  AttentionShape shape = kOdd;
  shape.value_size = 257;
  AttentionCase tested(shape, {0, 4}, DType::kFloat32, devices);
  CHECK_THROWS_AS(tested.on_cuda(), InternalError);
}

}  // namespace fathom::kernels
