#include "model/init.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "parallel/comm/thread_communicator.h"
#include "parallel/parameter_buffer.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_training.h"

namespace fathom {
namespace {

// A part of a published matrix of 1200 x 1000: more than is drawn at once.
parallel::Parameter part_of_matrix(parallel::Communicator& replicas) {
  parallel::Parameter parameter =
      parallel::whole_parameter("a.matrix", Shape{1200, 1000}, replicas);
  parallel::Piece& piece = parameter.pieces[0];
  piece.row_begin = 30;
  piece.num_rows = 1170;
  piece.column_begin = 3;
  piece.num_columns = 997;
  parameter.shape = Shape{1170, 997};
  return parameter;
}

}  // namespace

TEST_CASE("Initial values are drawn by published index, and rounded to the value's dtype") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  test::run_ranks(1, [&](parallel::Communicator& world, Stream&) {
    Stream stream({}, 2);
    parallel::Parameter matrix = part_of_matrix(world);
    parallel::Parameter gain = parallel::whole_parameter("a.gain", Shape{5}, world);
    gain.initial_value = parallel::InitialValue::kOnes;
    const parallel::ParameterBuffer buffer({&matrix, &gain}, {dtype, {}}, stream);
    model::initialize(matrix, 11, 0.02F, stream);
    model::initialize(gain, 11, 0.02F, stream);
    Tensor found = Tensor::empty(matrix.shape, DType::kFloat32, stream);
    kernels::convert(matrix.value(), found, stream);
    const RandomSource source(11, "initial value of a.matrix");
    std::int64_t num_wrong = 0;
    for (std::int64_t row = 0; row < 1170; ++row) {
      for (std::int64_t column = 0; column < 997; ++column) {
        float want =
            0.02F * source.normal(static_cast<std::uint64_t>((30 + row) * 1000 + 3 + column));
        if (dtype == DType::kBFloat16) {
          want = static_cast<float>(BFloat16(want));
        }
        num_wrong += found.data<float>()[row * 997 + column] == want ? 0 : 1;
      }
    }
    CHECK(num_wrong == 0);
    Tensor gains = Tensor::empty(gain.shape, DType::kFloat32, stream);
    kernels::convert(gain.value(), gains, stream);
    const auto ones = gains.values<float>();
    CHECK(std::all_of(ones.begin(), ones.end(), [](float value) { return value == 1.0F; }));
  });
}

TEST_CASE(
    "A model of the papers' initial weights knows nothing: its loss is the log of its vocabulary") {
  model::ModelOptions options = testing::small_options();
  options.initializer_range = 0.006F;
  testing::SmallTraining one_step;
  one_step.num_steps = 1;
  const trainer::StepResult first =
      testing::train(options, {{1, 1, 1, 1}, {}, 2, {}}, one_step).steps.at(0);
  const double log_vocabulary = std::log(static_cast<double>(options.vocab_size));
  CHECK(first.loss == Approx(log_vocabulary).margin(0.05));
  CHECK(first.mtp_losses.at(0) == Approx(log_vocabulary).margin(0.05));
}

}  // namespace fathom
