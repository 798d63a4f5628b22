#include "parallel/pipeline/executor.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "parallel/pipeline/schedule.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::parallel;

namespace {

// Micro-batches of different length, so that a mixed-up one also has the wrong shape.
std::int64_t length_of(int micro_batch) { return 5 + micro_batch % 3; }

// A stage whose forward, backward and weight gradient depend on stage, micro-batch, element order
// and on the order of the calls: any two exchanged give other bits.
class FakeStage : public PipelineStage {
 public:
  FakeStage(int stage, int num_stages, Stream& stream)
      : stage_(stage), num_stages_(num_stages), stream_(stream) {}

  Tensor forward(int micro_batch, const Tensor& input) override {
    const std::int64_t n = length_of(micro_batch);
    std::vector<float> x(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      x[static_cast<std::size_t>(i)] =
          stage_ == 0 ? 0.25F * static_cast<float>(micro_batch) + 0.5F * static_cast<float>(i)
                      : input.values<float>()[static_cast<std::size_t>(i)];
    }
    if (stage_ > 0) {
      FATHOM_CHECK(input.numel() == n, input.shape(), " for micro-batch ", micro_batch);
    }
    saved_[micro_batch] = x;
    if (stage_ == num_stages_ - 1) {
      losses[micro_batch] = x;
      return {};
    }
    return transformed(x, 0.375F * static_cast<float>(stage_ + 1), micro_batch);
  }

  Tensor backward_input(int micro_batch, const Tensor& output_grad) override {
    const std::vector<float>& x = saved_.at(micro_batch);
    std::vector<float> grad(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      grad[i] = stage_ == num_stages_ - 1 ? std::sin(x[i]) : output_grad.values<float>()[i];
    }
    if (stage_ < num_stages_ - 1) {
      FATHOM_CHECK(output_grad.numel() == length_of(micro_batch), output_grad.shape());
    }
    output_grads_[micro_batch] = grad;
    for (std::size_t i = 0; i < x.size(); ++i) {
      grad[i] *= std::cos(x[i]);
    }
    return stage_ == 0 ? Tensor() : transformed(grad, -0.625F, micro_batch);
  }

  void backward_weight(int micro_batch) override {
    const std::vector<float>& x = saved_.at(micro_batch);
    const std::vector<float>& grad = output_grads_.at(micro_batch);
    for (std::size_t i = 0; i < x.size(); ++i) {
      weight_grad = 0.875F * weight_grad + grad[i] * x[i];
    }
    saved_.erase(micro_batch);
    output_grads_.erase(micro_batch);
  }

  Tensor backward(int micro_batch, const Tensor& output_grad) override {
    Tensor input_grad = backward_input(micro_batch, output_grad);
    backward_weight(micro_batch);
    return input_grad;
  }

  Shape boundary_shape(int micro_batch) const override { return {length_of(micro_batch)}; }

  std::size_t num_saved() const { return saved_.size(); }

  std::map<int, std::vector<float>> losses;  // last stage
  float weight_grad = 1.0F;

 private:
  Tensor transformed(const std::vector<float>& x, float offset, int micro_batch) {
    Tensor y = Tensor::empty({static_cast<std::int64_t>(x.size())}, DType::kFloat32, stream_);
    for (std::size_t i = 0; i < x.size(); ++i) {
      y.mutable_values<float>()[i] = 0.75F * x[(i + 1) % x.size()] + std::sin(x[i] + offset) +
                                     0.03125F * static_cast<float>(micro_batch);
    }
    return y;
  }

  const int stage_, num_stages_;
  Stream& stream_;
  std::map<int, std::vector<float>> saved_, output_grads_;
};

struct Results {
  std::map<int, std::vector<float>> losses;
  std::vector<float> weight_grads;
  bool operator==(const Results&) const = default;
};

// One stage after another, one micro-batch after another: no schedule and no communication.
Results run_serially(int num_stages, int num_micro_batches) {
  Stream stream;
  std::vector<FakeStage> stages;
  for (int stage = 0; stage < num_stages; ++stage) {
    stages.emplace_back(stage, num_stages, stream);
  }
  for (int micro_batch = 0; micro_batch < num_micro_batches; ++micro_batch) {
    Tensor x;
    for (FakeStage& stage : stages) {
      x = stage.forward(micro_batch, x);
    }
    Tensor grad;
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      grad = stage->backward(micro_batch, grad);
    }
  }
  Results results{.losses = stages.back().losses, .weight_grads = {}};
  for (const FakeStage& stage : stages) {
    results.weight_grads.push_back(stage.weight_grad);
  }
  return results;
}

Results run_on_ranks(const Schedule& schedule) {
  Results results;
  results.weight_grads.resize(static_cast<std::size_t>(schedule.num_stages));
  std::mutex mutex;
  test::run_ranks(static_cast<int>(schedule.actions.size()), [&](Communicator& world,
                                                                 Stream& stream) {
    std::vector<std::unique_ptr<FakeStage>> owned(static_cast<std::size_t>(schedule.num_stages));
    std::vector<PipelineStage*> stages(owned.size(), nullptr);
    for (int stage = 0; stage < schedule.num_stages; ++stage) {
      const auto i = static_cast<std::size_t>(stage);
      if (schedule.rank_of_stage[0][i] == world.rank()) {
        owned[i] = std::make_unique<FakeStage>(stage, schedule.num_stages, stream);
        stages[i] = owned[i].get();
      }
    }
    run(schedule, stages, world, stream);
    FATHOM_CHECK(stream.allocator()->bytes_in_use() == 0, "the executor keeps ",
                 stream.allocator()->bytes_in_use(), " bytes");
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < owned.size(); ++i) {
      if (owned[i] != nullptr) {
        results.weight_grads[i] = owned[i]->weight_grad;
        results.losses.merge(owned[i]->losses);
        FATHOM_CHECK(owned[i]->num_saved() == 0);
      }
    }
  });
  return results;
}

// Every backward as an input part and, right after or three actions later, a weight part.
Schedule split_backwards(const Schedule& whole, std::size_t delay) {
  Schedule schedule = whole;
  for (std::vector<Action>& actions : schedule.actions) {
    std::vector<Action> split, weight_parts;
    for (Action action : actions) {
      if (action.kind == ActionKind::kBackward) {
        action.kind = ActionKind::kBackwardInput;
        weight_parts.push_back(action);
        weight_parts.back().kind = ActionKind::kBackwardWeight;
      }
      split.push_back(action);
      while (weight_parts.size() > delay) {
        split.push_back(weight_parts.front());
        weight_parts.erase(weight_parts.begin());
      }
    }
    split.insert(split.end(), weight_parts.begin(), weight_parts.end());
    actions = split;
  }
  return schedule;
}

}  // namespace

TEST_CASE("a pipeline computes the same bits as its stages one after another") {
  for (const int num_ranks : {1, 2, 3, 4, 8}) {
    for (const int stages_per_rank : {1, 2, 3}) {
      for (const int num_groups : {1, 2, 3}) {
        const int num_micro_batches = num_groups * num_ranks;
        const Schedule compute =
            interleaved_one_forward_one_backward(num_ranks, stages_per_rank, num_micro_batches);
        const Results serial = run_serially(compute.num_stages, num_micro_batches);
        CHECK(run_on_ranks(add_communication(compute)) == serial);
      }
    }
  }
}

TEST_CASE("1F1B computes the same bits for any number of micro-batches") {
  for (const int num_ranks : {2, 3, 8}) {
    for (const int num_micro_batches : {1, 2, 5, 11}) {
      CHECK(run_on_ranks(add_communication(one_forward_one_backward(
                num_ranks, num_micro_batches))) == run_serially(num_ranks, num_micro_batches));
    }
  }
}

TEST_CASE("input and weight parts apart compute the same bits, whenever the weight part runs") {
  for (const std::size_t delay : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    const Schedule schedule = split_backwards(interleaved_one_forward_one_backward(2, 2, 6), delay);
    CHECK(run_on_ranks(add_communication(schedule)) == run_serially(4, 6));
  }
}

TEST_CASE("neighbouring stages of one rank hand over without messages") {
  Schedule schedule = one_forward_one_backward(4, 3);
  // Stages 0 and 1 to rank 0, stages 2 and 3 to rank 1, in a plain order.
  schedule.rank_of_stage = {{0, 0, 1, 1}};
  schedule.actions.assign(2, {});
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    for (const int stage : {0, 1, 2, 3}) {
      schedule.actions[stage < 2 ? 0 : 1].push_back(
          {.kind = ActionKind::kForward, .stage = stage, .micro_batch = micro_batch});
    }
  }
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    for (const int stage : {3, 2, 1, 0}) {
      schedule.actions[stage < 2 ? 0 : 1].push_back(
          {.kind = ActionKind::kBackward, .stage = stage, .micro_batch = micro_batch});
    }
  }
  const Schedule with_messages = add_communication(schedule);
  CHECK(with_messages.actions[0].size() == schedule.actions[0].size() + 6);
  CHECK(run_on_ranks(with_messages) == run_serially(4, 3));
}

TEST_CASE("a rank may use messages in another order than they are sent in") {
  Schedule schedule = one_forward_one_backward(2, 3);
  schedule.actions[0] = {};
  schedule.actions[1] = {};
  for (const int micro_batch : {0, 1, 2}) {
    schedule.actions[0].push_back(
        {.kind = ActionKind::kForward, .stage = 0, .micro_batch = micro_batch});
    schedule.actions[1].push_back(
        {.kind = ActionKind::kForward, .stage = 1, .micro_batch = (micro_batch + 2) % 3});
  }
  for (const int micro_batch : {0, 1, 2}) {
    schedule.actions[0].push_back(
        {.kind = ActionKind::kBackward, .stage = 0, .micro_batch = micro_batch});
    schedule.actions[1].push_back(
        {.kind = ActionKind::kBackward, .stage = 1, .micro_batch = micro_batch});
  }
  const Schedule with_messages = add_communication(schedule);
  validate(with_messages);
  CHECK(run_on_ranks(with_messages) == run_serially(2, 3));
}

TEST_CASE("forwards alone give the losses of the whole schedule") {
  for (const int num_micro_batches : {1, 3, 4}) {
    const Schedule schedule = add_communication(forward_only(2, 2, num_micro_batches));
    std::map<int, std::vector<float>> losses;
    test::run_ranks(2, [&](Communicator& world, Stream& stream) {
      FakeStage first(world.rank(), 4, stream), second(world.rank() + 2, 4, stream);
      std::vector<PipelineStage*> stages(4, nullptr);
      stages[static_cast<std::size_t>(world.rank())] = &first;
      stages[static_cast<std::size_t>(world.rank()) + 2] = &second;
      run(schedule, stages, world, stream);
      if (world.rank() == 1) {
        losses = second.losses;
      }
    });
    CHECK(losses == run_serially(4, num_micro_batches).losses);
  }
}

TEST_CASE("an error in a stage names rank and action") {
  class FailingStage : public FakeStage {
   public:
    using FakeStage::FakeStage;
    Tensor backward(int, const Tensor&) override { throw DeviceError("no more memory"); }
  };
  Schedule schedule = one_forward_one_backward(1, 2);
  std::string message;
  try {
    test::run_ranks(1, [&](Communicator& world, Stream& stream) {
      FailingStage stage(0, 1, stream);
      const std::vector<PipelineStage*> stages{&stage};
      run(schedule, stages, world, stream);
    });
  } catch (const DeviceError& error) {
    message = error.message();
  }
  CHECK(message == "no more memory\n  while rank 0, position 1 (B0.0) of the pipeline");
}
