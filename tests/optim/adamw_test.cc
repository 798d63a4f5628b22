#include "optim/adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/elementwise.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::optim;

namespace {

constexpr std::int64_t kRows = 37;  // several shards cut the matrix
constexpr std::int64_t kColumns = 13;

float gradient_of(std::int64_t step, std::int64_t parameter, std::int64_t element) {
  return RandomSource(3, concat("gradient ", parameter))
      .normal(static_cast<std::uint64_t>(step * 1000 + element));
}

// One scalar in double, straight from the paper's algorithm 2.
struct ScalarAdamW {
  double value = 0.0, m = 0.0, v = 0.0;
  void step(double gradient, int t, double lr, double weight_decay) {
    m = 0.9 * m + 0.1 * gradient;
    v = 0.95 * v + 0.05 * gradient * gradient;
    const double m_hat = m / (1.0 - std::pow(0.9, t));
    const double v_hat = v / (1.0 - std::pow(0.95, t));
    value -= lr * (m_hat / (std::sqrt(v_hat) + 1e-8) + weight_decay * value);
  }
};

class Collect final : public parallel::StateVisitor {
 public:
  Access access() const noexcept override { return Access::kRead; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    for (std::int64_t i = 0; i < local.numel(); ++i) {
      const std::int64_t row = slice.row_begin + i / slice.num_columns;
      const std::int64_t column = slice.column_begin + i % slice.num_columns;
      const auto index = static_cast<std::size_t>(row * slice.global_shape[-1] + column);
      elements[concat(slice.key, " ", index)] = local.values<float>()[static_cast<std::size_t>(i)];
    }
  }
  void integer(const std::string& key, std::int64_t& value) override { integers[key] = value; }
  std::map<std::string, float> elements;
  std::map<std::string, std::int64_t> integers;
};

void take_step(Optimizer& optimizer, double learning_rate, float scale, Stream& stream) {
  Tensor grad_scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  kernels::fill(grad_scale, scale, stream);
  optimizer.step(learning_rate, grad_scale, stream);
  optimizer.finish_step(!std::isnan(scale));
}

// Ten steps of a matrix (decayed) and a gain (not decayed) on `replicas`, gradients split unevenly
// over the replicas.
std::map<std::string, float> train(parallel::Communicator& replicas, Stream& stream) {
  std::vector<parallel::Parameter> parameters = {
      parallel::whole_parameter("matrix", Shape{kRows, kColumns}, replicas),
      parallel::whole_parameter("gain", Shape{kColumns}, replicas)};
  parallel::ParameterBuffer buffer({&parameters[0], &parameters[1]}, {}, stream);
  for (parallel::Parameter& parameter : parameters) {
    auto values = parameter.value().mutable_values<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = 1.0F + 0.01F * static_cast<float>(i);
    }
  }
  AdamW optimizer(buffer, {0.9, 0.95, 1e-8, 0.1, DType::kFloat32}, stream);
  for (int step = 0; step < 10; ++step) {
    buffer.begin_gradients(stream);
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      kernels::fill_if_empty(parameters[p].grad, stream);
      auto grads = parameters[p].grad.sum.mutable_values<float>();
      for (std::size_t i = 0; i < grads.size(); ++i) {
        if (static_cast<int>(i) % replicas.world_size() == replicas.rank()) {
          grads[i] = gradient_of(step, static_cast<std::int64_t>(p), static_cast<std::int64_t>(i));
        }
      }
    }
    buffer.reduce_gradients(stream);
    take_step(optimizer, 0.3, std::numeric_limits<float>::quiet_NaN(), stream);  // nothing happens
    take_step(optimizer, 1e-2, 0.5F, stream);
    buffer.gather_values(stream);
  }
  // Every replica holds every value; only the shards hold moments.
  Collect collect;
  optimizer.visit_state(collect);
  for (const parallel::Parameter& parameter : parameters) {
    for (std::int64_t i = 0; i < parameter.value().numel(); ++i) {
      collect.elements[concat("replica ", parameter.name, " ", i)] =
          parameter.value().values<float>()[static_cast<std::size_t>(i)];
    }
  }
  FATHOM_CHECK(collect.integers.at("optimizer.num_updates") == 10);
  return collect.elements;
}

}  // namespace

TEST_CASE("AdamW follows the paper's algorithm in double, with decay on matrices only") {
  std::map<std::string, float> elements;
  test::run_ranks(
      1, [&](parallel::Communicator& world, Stream& stream) { elements = train(world, stream); });
  for (std::int64_t p = 0; p < 2; ++p) {
    const std::int64_t numel = p == 0 ? kRows * kColumns : kColumns;
    for (std::int64_t i = 0; i < numel; ++i) {
      ScalarAdamW scalar;
      scalar.value = 1.0F + 0.01F * static_cast<float>(i);
      for (int step = 0; step < 10; ++step) {
        scalar.step(0.5 * static_cast<double>(gradient_of(step, p, i)), step + 1, 1e-2,
                    p == 0 ? 0.1 : 0.0);
      }
      const std::string key = p == 0 ? "matrix" : "gain";
      CHECK(elements.at(concat(key, " ", i)) == Approx(scalar.value).epsilon(1e-5));
      CHECK(elements.at(concat(key, ".exp_avg ", i)) ==
            Approx(scalar.m).epsilon(1e-4).margin(1e-6));
    }
  }
}

TEST_CASE("A sharded optimizer computes the same bits as an unsharded one") {
  std::map<std::string, float> alone;
  test::run_ranks(
      1, [&](parallel::Communicator& world, Stream& stream) { alone = train(world, stream); });
  const int replicas = GENERATE(2, 3, 4);
  std::vector<std::map<std::string, float>> sharded(static_cast<std::size_t>(replicas));
  test::run_ranks(replicas, [&](parallel::Communicator& world, Stream& stream) {
    sharded[static_cast<std::size_t>(world.rank())] = train(world, stream);
  });
  std::size_t num_states = 0;
  for (const auto& elements : sharded) {
    for (const auto& [key, value] : elements) {
      INFO(key);
      CHECK(value == alone.at(key));
      num_states += key.find("exp_avg ") != std::string::npos ? 1 : 0;
    }
  }
  // Each first moment is kept exactly once.
  CHECK(num_states == static_cast<std::size_t>(kRows * kColumns + kColumns));
}

TEST_CASE(
    "With master weights the values are the master rounded to bfloat16, and small updates are "
    "kept") {
  std::vector<float> values;
  std::map<std::string, float> elements;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    parallel::Parameter parameter = parallel::whole_parameter("matrix", Shape{4, 4}, world);
    parallel::ParameterBuffer buffer({&parameter}, {}, stream);
    for (float& value : parameter.value().mutable_values<float>()) {
      value = 1.0F;
    }
    AdamWHyperparameters hyperparameters;
    hyperparameters.weight_decay = 0.0;
    hyperparameters.master_weights = true;
    hyperparameters.parameter_dtype = DType::kBFloat16;
    AdamW optimizer(buffer, hyperparameters, stream);
    optimizer.values_drawn(stream);
    for (int step = 0; step < 10; ++step) {
      for (float& grad : parameter.grad.sum.mutable_values<float>()) {
        grad = 1.0F;
      }
      buffer.reduce_gradients(stream);
      take_step(optimizer, 1e-3, 1.0F, stream);  // below half of bfloat16's spacing at 1
      buffer.gather_values(stream);
    }
    Collect collect;
    optimizer.visit_state(collect);
    elements = collect.elements;
    values.assign(parameter.value().values<float>().begin(),
                  parameter.value().values<float>().end());
  });
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float master = elements.at(concat("matrix ", i));
    CHECK(master == Approx(1.0 - 10 * 1e-3).epsilon(1e-5));
    CHECK(values[i] == static_cast<float>(BFloat16(master)));
  }
}

namespace {

struct Trained {
  std::map<std::string, float> states;
  std::vector<float> values;
};

// Three steps with master weights from drawn values, on values of `dtype`.
Trained train_values(DType dtype) {
  Trained trained;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    parallel::Parameter parameter = parallel::whole_parameter("matrix", Shape{9, 5}, world);
    parallel::ParameterBuffer buffer({&parameter}, {dtype, {}}, stream);
    CHECK(parameter.value().dtype() == dtype);
    std::vector<BFloat16> drawn;
    for (int i = 0; i < 45; ++i) {
      drawn.emplace_back(0.1F * static_cast<float>(i) - 2.0F);
    }
    if (dtype == DType::kBFloat16) {
      std::copy(drawn.begin(), drawn.end(), parameter.value().mutable_data<BFloat16>());
    } else {
      std::transform(drawn.begin(), drawn.end(), parameter.value().mutable_data<float>(),
                     [](BFloat16 value) { return static_cast<float>(value); });
    }
    AdamWHyperparameters hyperparameters;
    hyperparameters.master_weights = true;
    hyperparameters.parameter_dtype = DType::kBFloat16;
    AdamW optimizer(buffer, hyperparameters, stream);
    optimizer.values_drawn(stream);
    for (int step = 0; step < 3; ++step) {
      auto grads = parameter.grad.sum.mutable_values<float>();
      for (std::size_t i = 0; i < grads.size(); ++i) {
        grads[i] = gradient_of(step, 0, static_cast<std::int64_t>(i));
      }
      buffer.reduce_gradients(stream);
      take_step(optimizer, 1e-2, 1.0F, stream);
      buffer.gather_values(stream);
    }
    Collect collect;
    optimizer.visit_state(collect);
    trained.states = collect.elements;
    Tensor values = Tensor::empty(parameter.value().shape(), DType::kFloat32, stream);
    kernels::convert(parameter.value(), values, stream);
    trained.values.assign(values.values<float>().begin(), values.values<float>().end());
    // Weights that were read go to the values in their dtype.
    kernels::fill(parameter.value(), 0.0F, stream);
    optimizer.weights_loaded(stream);
    kernels::convert(parameter.value(), values, stream);
    CHECK(std::equal(trained.values.begin(), trained.values.end(), values.data<float>()));
  });
  return trained;
}

}  // namespace

TEST_CASE("Values of bfloat16 train as float32 values that bfloat16 can hold, to the bit") {
  const Trained halves = train_values(DType::kBFloat16);
  const Trained floats = train_values(DType::kFloat32);
  CHECK(halves.states == floats.states);
  CHECK(halves.values == floats.values);
  for (std::size_t i = 0; i < halves.values.size(); ++i) {
    const float master = halves.states.at(concat("matrix ", i));
    CHECK(halves.values[i] == static_cast<float>(BFloat16(master)));
    CHECK(master != static_cast<float>(BFloat16(0.1F * static_cast<float>(i) - 2.0F)));  // it moved
  }
}
