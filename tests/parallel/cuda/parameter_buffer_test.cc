// Gradients as integers on a device, values of bfloat16 beside them.
#include "parallel/parameter_buffer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "core/bfloat16.h"
#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::parallel {
namespace {

constexpr int kFractionBits = 40;
constexpr std::int64_t kLengths[] = {256, 300, 77, 5000, 1};
constexpr std::size_t kUntouched = 2;  // the parameter that gets no contribution

// What a rank contributes to an element in a step: numbers of many magnitudes and both signs, of
// which float32 does not hold every sum.
std::int64_t contribution(int rank, int step, std::size_t parameter, std::int64_t i) {
  std::uint64_t x = static_cast<std::uint64_t>(i + 1) * 0x9e3779b97f4a7c15U +
                    static_cast<std::uint64_t>(rank * 100 + step * 10) * 0xbf58476d1ce4e5b9U +
                    parameter;
  x ^= x >> 31;
  x *= 0x94d049bb133111ebU;
  return static_cast<std::int64_t>(x) >> (6 + i % 50);
}

float reduced(int num_ranks, int step, std::size_t parameter, std::int64_t i) {
  std::int64_t sum = 0;
  for (int rank = 0; rank < num_ranks && parameter != kUntouched; ++rank) {
    sum += contribution(rank, step, parameter, i);
  }
  return std::ldexp(static_cast<float>(sum), -kFractionBits);
}

// A bfloat16 that says whose it is.
float value_of(int rank, std::int64_t i) { return static_cast<float>(rank * 64 + i % 60); }

class Run {
 public:
  Run(Communicator& replicas, std::int64_t group_elements, Stream& stream)
      : replicas_(&replicas), stream_(&stream) {
    std::vector<Parameter*> pointers;
    for (const std::int64_t length : kLengths) {
      index_.emplace(&parameters_.emplace_back(
                         whole_parameter(concat("p", pointers.size()), Shape{length}, replicas)),
                     pointers.size());
      pointers.push_back(&parameters_.back());
    }
    ParameterFormat format;
    format.value_dtype = DType::kBFloat16;
    format.gradients = {
        .dtype = DType::kInt64, .fraction_bits = kFractionBits, .tokens_per_step = 4};
    format.group_elements = group_elements;
    buffer_.emplace(pointers, format, stream);
  }

  std::size_t num_groups() { return buffer_->groups().size(); }

  // From the last to the first, as a backward does.
  void backward(int step) {
    buffer_->begin_gradients(*stream_);
    for (std::size_t i = parameters_.size(); i-- > 0;) {
      Parameter& parameter = parameters_[i];
      if (i != kUntouched) {
        std::vector<std::int64_t> sums;
        for (std::int64_t k = 0; k < kLengths[i]; ++k) {
          sums.push_back(contribution(replicas_->rank(), step, i, k));
        }
        from_host<std::int64_t>(sums, parameter.grad.sum, *stream_);
        parameter.grad.is_empty = false;
      }
      buffer_->gradient_complete(parameter, *stream_);
    }
    buffer_->reduce_gradients(*stream_);
  }

  void check_gradients(int step) {
    for (const ParameterGroup& group : buffer_->groups()) {
      FATHOM_CHECK(group.gradient_shard.dtype() == DType::kFloat32);
      const std::vector<float> found = to_host<float>(group.gradient_shard, *stream_);
      std::vector<float> want(found.size(), 0.0F);  // padding
      for (const ParameterRange& range : group.shard_ranges) {
        for (std::int64_t i = range.begin; i < range.end; ++i) {
          want[static_cast<std::size_t>(range.shard_offset + i - range.begin)] =
              reduced(replicas_->world_size(), step, index_.at(range.parameter), i);
        }
      }
      for (std::size_t i = 0; i < found.size(); ++i) {
        FATHOM_CHECK(found[i] == want[i], "element ", i, " of the shard of rank ",
                     replicas_->rank(), ": ", found[i], ", want ", want[i]);
      }
    }
  }

  // Every owner sets its shard; all see what the owners have set.
  void check_values() {
    for (ParameterGroup& group : buffer_->groups()) {
      std::vector<BFloat16> mine;
      for (std::int64_t i = 0; i < group.shard_size; ++i) {
        mine.emplace_back(value_of(replicas_->rank(), i));
      }
      from_host<BFloat16>(mine, group.value_shard, *stream_);
    }
    buffer_->gather_values(*stream_);
    for (const ParameterGroup& group : buffer_->groups()) {
      const std::vector<BFloat16> values = to_host<BFloat16>(group.values, *stream_);
      for (std::int64_t i = 0; i < group.values.numel(); ++i) {
        const float found = static_cast<float>(values[static_cast<std::size_t>(i)]);
        const float want = value_of(static_cast<int>(i / group.shard_size), i % group.shard_size);
        FATHOM_CHECK(found == want, "value ", i, ": ", found, ", want ", want);
      }
    }
  }

 private:
  Communicator* replicas_;
  Stream* stream_;
  std::deque<Parameter> parameters_;  // addresses stay: a buffer keeps them
  std::map<const Parameter*, std::size_t> index_;
  std::optional<ParameterBuffer> buffer_;
};

}  // namespace

TEST_CASE("Integer gradients on a device are added up over replicas, whatever goes with them") {
  const Device device = GENERATE(Device{}, Device{DeviceType::kCuda, 0});
  const int num_ranks = GENERATE(1, 2, 3);
  const std::int64_t group_elements = GENERATE(1, 400, 100'000);
  INFO(num_ranks << " ranks, groups of " << group_elements << " elements");
  test::run_ranks(
      num_ranks,
      [&](Communicator& replicas, Stream& stream) {
        Run run(replicas, group_elements, stream);
        FATHOM_CHECK((run.num_groups() == 1) == (group_elements == 100'000), run.num_groups());
        for (int step = 0; step < 2; ++step) {
          run.backward(step);
          run.check_gradients(step);
          run.check_values();
        }
      },
      {}, device);
}

}  // namespace fathom::parallel
