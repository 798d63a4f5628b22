#include "kernels/packed_matmul.h"

#include "kernels/latent_attention.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr AttentionShape kEven{.num_heads = 3,
                               .nope_size = 32,
                               .rope_size = 16,
                               .value_size = 48,
                               .rope_column = 64,
                               .scale = 1.0F};
constexpr AttentionShape kOdd{.num_heads = 5,
                              .nope_size = 7,
                              .rope_size = 3,
                              .value_size = 18,
                              .rope_column = 9,
                              .scale = 1.0F};
constexpr AttentionShape kDeepSeek{.num_heads = 16,
                                   .nope_size = 128,
                                   .rope_size = 64,
                                   .value_size = 128,
                                   .rope_column = 512,
                                   .scale = 1.0F};

double sum_tolerance(DType dtype) { return tolerance(dtype) + 5e-5; }

// The two products with W_kvb that latent attention has.
struct Absorbed {
  Absorbed(const AttentionShape& shape, const Tensor& kv_b, Stream& stream)
      : key(Tensor::empty(packed_shape({shape.num_heads, shape.rope_column, shape.nope_size}),
                          kv_b.dtype(), stream)),
        value(Tensor::empty(packed_shape({shape.num_heads, shape.value_size, shape.rope_column}),
                            kv_b.dtype(), stream)) {
    pack_absorbed(shape, kv_b, key, value, stream);
  }
  Tensor key, value;
};

}  // namespace

TEST_CASE("The products of latent attention's heads on CUDA are those of the CPU") {
  const AttentionShape shape = GENERATE(kEven, kOdd, kDeepSeek);
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t rows = GENERATE(0, 1, 6, 33);
  INFO(shape.num_heads << " heads, " << rows << " rows, " << dtype);
  Devices devices;
  const auto make = [&](const Shape& tensor_shape, const char* name) {
    return devices.rounded(random_tensor(tensor_shape, name, devices.cpu), dtype);
  };
  const std::int64_t heads = shape.num_heads;
  const Tensor kv_b =
      make({heads * (shape.nope_size + shape.value_size), shape.rope_column}, "kv_b");
  // The rotated columns of each head, which follow the others, are not taken.
  const Tensor q = make({rows, heads * (shape.nope_size + shape.rope_size)}, "q");
  const Tensor latents = make({rows, heads * shape.rope_column}, "latents");
  const Absorbed here(shape, kv_b, devices.cpu);
  const Absorbed there(shape, devices.to_cuda(kv_b, dtype), devices.cuda);
  const auto error = [&](const Tensor& x, const Tensor& packed, const Tensor& packed_there,
                         std::int64_t out_size) {
    Tensor want = Tensor::empty({rows, heads * out_size}, DType::kFloat32, devices.cpu);
    packed_head_matmul_forward(x, packed, want, devices.cpu);
    Tensor found = devices.empty(want.shape(), dtype);
    packed_head_matmul_forward(devices.to_cuda(x, dtype), packed_there, found, devices.cuda);
    return largest_error(found, want, devices);
  };
  CHECK(error(q, here.key, there.key, shape.rope_column) < sum_tolerance(dtype));
  CHECK(error(latents, here.value, there.value, shape.value_size) < sum_tolerance(dtype));
}

TEST_CASE("Weights are packed on the CPU alone") {
  Devices devices;
  const Tensor w = devices.to_cuda(random_tensor({20, 8}, "w", devices.cpu), DType::kFloat32);
  Tensor packed = devices.empty(packed_shape(w.shape()), DType::kFloat32);
  const Tensor offsets = Tensor::zeros({1}, DType::kInt64, devices.cuda);
  Tensor y = devices.empty({3, 20}, DType::kFloat32);
  const Tensor x = devices.empty({3, 8}, DType::kFloat32);
  CHECK_THROWS_WITH(pack_weight(w, packed, devices.cuda), Catch::Contains("a function of the CPU"));
  CHECK_THROWS_WITH(packed_matmul_forward(x, packed, y, 1, devices.cuda),
                    Catch::Contains("a function of the CPU"));
  CHECK_THROWS_WITH(packed_grouped_matmul_forward(x, devices.empty({0, 2, 8, 16}, DType::kFloat32),
                                                  offsets, y, devices.cuda),
                    Catch::Contains("a function of the CPU"));
}

}  // namespace fathom::kernels
