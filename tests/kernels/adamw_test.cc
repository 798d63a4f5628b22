#include "kernels/adamw.h"

#include <cmath>

#include "kernels/elementwise.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

constexpr float kGradScale = 0.7F;

AdamWOptions some_options(Stream& stream) {
  AdamWOptions options;
  options.grad_scale = filled(Shape{1}, kGradScale, stream);
  options.learning_rate = 3e-3;
  options.beta2 = 0.99;
  options.epsilon = 1e-6;
  options.weight_decay = 0.1;
  return options;
}

// Float64 moments and weight of one element.
struct Reference {
  double weight = 0.0;
  double m = 0.0;
  double v = 0.0;
  void step(const AdamWOptions& options, double gradient) {
    const double g = gradient * static_cast<double>(kGradScale);
    const auto t = static_cast<double>(options.step);
    m = options.beta1 * m + (1.0 - options.beta1) * g;
    v = options.beta2 * v + (1.0 - options.beta2) * g * g;
    const double update = m / (1.0 - std::pow(options.beta1, t)) /
                          (std::sqrt(v / (1.0 - std::pow(options.beta2, t))) + options.epsilon);
    weight -= options.learning_rate * (update + options.weight_decay * weight);
  }
};

Tensor as(DType dtype, const Tensor& x, Stream& stream) {
  Tensor result = Tensor::empty(x.shape(), dtype, stream);
  convert(x, result, stream);
  return result;
}

}  // namespace

TEST_CASE("Twenty AdamW steps follow float64") {
  Stream stream;
  const std::int64_t n = GENERATE(0, 1, 16, 531);
  Tensor weight = random_tensor(Shape{n}, "weight", stream);
  Tensor m = filled(Shape{n}, 0.0F, stream);
  Tensor v = filled(Shape{n}, 0.0F, stream);
  std::vector<Reference> reference(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < reference.size(); ++i) {
    reference[i].weight = weight.data<float>()[i];
  }
  AdamWOptions options = some_options(stream);
  for (options.step = 1; options.step <= 20; ++options.step) {
    const Tensor grad = random_tensor(Shape{n}, concat("grad ", options.step), stream);
    adamw_step(options, grad, weight, weight, m, v, stream);
    for (std::size_t i = 0; i < reference.size(); ++i) {
      reference[i].step(options, grad.data<float>()[i]);
    }
  }
  for (std::size_t i = 0; i < reference.size(); ++i) {
    REQUIRE(weight.data<float>()[i] == Approx(reference[i].weight).margin(2e-6));
    REQUIRE(m.data<float>()[i] == Approx(reference[i].m).margin(1e-6));
    REQUIRE(v.data<float>()[i] == Approx(reference[i].v).margin(1e-6));
  }
}

TEST_CASE("bfloat16 operands are read exactly and rounded once when written") {
  Stream stream;
  const std::int64_t n = 1037;
  const Shape shape{n};
  const Tensor grad = as(DType::kBFloat16, random_tensor(shape, "grad", stream), stream);
  Tensor m = as(DType::kBFloat16, random_tensor(shape, "m", stream), stream);
  Tensor v = as(DType::kBFloat16, filled(shape, 0.3F, stream), stream);
  Tensor master = random_tensor(shape, "master", stream);
  Tensor value = Tensor::empty(shape, DType::kBFloat16, stream);
  Tensor wide_m = as(DType::kFloat32, m, stream);
  Tensor wide_v = as(DType::kFloat32, v, stream);
  Tensor wide_master = tensor_of(vector_of(master), shape, stream);
  Tensor wide_value = Tensor::empty(shape, DType::kFloat32, stream);
  AdamWOptions options = some_options(stream);
  options.step = 5;
  adamw_step(options, grad, master, value, m, v, stream);
  adamw_step(options, as(DType::kFloat32, grad, stream), wide_master, wide_value, wide_m, wide_v,
             stream);
  CHECK(bytes_of(master) == bytes_of(wide_master));
  CHECK(bytes_of(wide_value) == bytes_of(wide_master));
  CHECK(bytes_of(value) == bytes_of(as(DType::kBFloat16, wide_value, stream)));
  CHECK(bytes_of(m) == bytes_of(as(DType::kBFloat16, wide_m, stream)));
  CHECK(bytes_of(v) == bytes_of(as(DType::kBFloat16, wide_v, stream)));
}

TEST_CASE("An element's AdamW step does not depend on its place or on threads") {
  check_same_bits_on_any_threads([](Stream& stream) {
    const Shape shape{40001};
    Tensor weight = random_tensor(shape, "weight", stream);
    Tensor m = random_tensor(shape, "m", stream);
    Tensor v = filled(shape, 0.2F, stream);
    adamw_step(some_options(stream), random_tensor(shape, "grad", stream), weight, weight, m, v,
               stream);
    return std::vector<Tensor>{weight, m, v};
  });
  Stream stream;
  Tensor weight = filled(Shape{37}, 0.4F, stream);
  Tensor m = filled(Shape{37}, 0.1F, stream);
  Tensor v = filled(Shape{37}, 0.2F, stream);
  adamw_step(some_options(stream), filled(Shape{37}, 0.3F, stream), weight, weight, m, v, stream);
  CHECK(vector_of(weight) == std::vector<float>(37, weight.data<float>()[0]));
}

TEST_CASE("AdamW refuses other sizes, dtypes and step 0") {
  Stream stream;
  Tensor three = filled(Shape{3}, 1.0F, stream);
  Tensor four = filled(Shape{4}, 1.0F, stream);
  Tensor integers = Tensor::zeros(Shape{3}, DType::kInt64, stream);
  AdamWOptions options;
  CHECK_THROWS_AS(adamw_step(options, four, three, three, three, three, stream), InternalError);
  CHECK_THROWS_AS(adamw_step(options, integers, three, three, three, three, stream), InternalError);
  options.step = 0;
  CHECK_THROWS_AS(adamw_step(options, three, three, three, three, three, stream), InternalError);
}

TEST_CASE("An AdamW step with a scale of NaN leaves everything as it is") {
  Stream stream;
  AdamWOptions options;
  options.learning_rate = 1.0;
  options.weight_decay = 0.5;
  options.grad_scale = filled(Shape{1}, std::numeric_limits<float>::quiet_NaN(), stream);
  Tensor weight = filled(Shape{700}, 3.0F, stream);
  Tensor m = filled(Shape{700}, 2.0F, stream);
  Tensor v = filled(Shape{700}, 1.0F, stream);
  const Tensor grad = filled(Shape{700}, std::numeric_limits<float>::quiet_NaN(), stream);
  adamw_step(options, grad, weight, weight, m, v, stream);
  CHECK(vector_of(weight) == std::vector<float>(700, 3.0F));
  CHECK(vector_of(m) == std::vector<float>(700, 2.0F));
  CHECK(vector_of(v) == std::vector<float>(700, 1.0F));
}

}  // namespace fathom::kernels
