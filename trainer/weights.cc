#include "trainer/weights.h"

#include <charconv>

#include "core/error.h"
#include "parallel/comm/agree.h"

namespace fathom::trainer {
namespace {

// Passes on what a published model consists of: tensors without the suffix of an optimizer state.
class WeightsOnly final : public parallel::StateVisitor {
 public:
  explicit WeightsOnly(parallel::StateVisitor& visitor) : visitor_(&visitor) {}
  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    if (slice.key.ends_with(".weight") || slice.key.ends_with(".e_score_correction_bias")) {
      visitor_->tensor(slice, local);
    }
  }
  void integer(const std::string&, std::int64_t&) override {}

 private:
  parallel::StateVisitor* visitor_;
};

std::int64_t step_of(const std::filesystem::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  constexpr std::string_view kPrefix = "step-";
  std::int64_t step = 0;
  const auto* const end = name.data() + name.size();
  const bool is_number = name.starts_with(kPrefix) &&
                         std::from_chars(name.data() + kPrefix.size(), end, step).ptr == end;
  if (!is_number || !std::filesystem::is_directory(checkpoint)) {
    throw ConfigError(
        concat("train.init_from: ", checkpoint.string(),
               " is not a checkpoint folder; name one like RUN/checkpoints/step-00001000"));
  }
  return step;
}

}  // namespace

void load_weights(const std::filesystem::path& checkpoint, const VisitState& state,
                  const CheckpointIdentity& expected, parallel::Communicator& world) {
  std::filesystem::path folder = checkpoint;
  if (!folder.has_filename()) {
    folder = folder.parent_path();  // a slash at the end
  }
  CheckpointOptions options;
  options.root = folder.parent_path();
  std::int64_t step = 0;
  parallel::agree(world, [&] { step = step_of(folder); });
  load_checkpoint(
      options, step,
      [&](parallel::StateVisitor& visitor) {
        WeightsOnly weights(visitor);
        state(weights);
      },
      expected, world, LoadScope::kPart);
}

}  // namespace fathom::trainer
