#include "rl/rollout_journal.h"

#include <charconv>
#include <iomanip>
#include <sstream>
#include <system_error>

#include "configs/schema/rollout_state.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/gather_bytes.h"

namespace fathom::rl {
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kSuffix = ".pb";

void to_message(const Score& score, ScoreState& state) {
  if (score.total) {
    state.set_total(*score.total);
  }
  for (const RewardValue& part : score.parts) {
    PartState& added = *state.add_parts();
    if (part.value) {
      added.set_value(*part.value);
    }
    added.set_reason(part.reason);
  }
}

Score from_message(const ScoreState& state) {
  Score score;
  score.total = state.has_total() ? std::optional(state.total()) : std::nullopt;
  for (const PartState& part : state.parts()) {
    score.parts.push_back(
        {part.has_value() ? std::optional(part.value()) : std::nullopt, part.reason()});
  }
  return score;
}

std::string seal(const RolloutState& state) {
  SealedRollout sealed;
  sealed.set_state(state.SerializeAsString());
  sealed.set_xxh3_64(data::checksum(sealed.state()));
  return sealed.SerializeAsString();
}

// Nothing when the bytes are not those of a whole rollout.
std::optional<RolloutState> unseal(const std::string& bytes) {
  SealedRollout sealed;
  RolloutState state;
  if (!sealed.ParseFromString(bytes) || sealed.xxh3_64() != data::checksum(sealed.state()) ||
      !state.ParseFromString(sealed.state())) {
    return std::nullopt;
  }
  return state;
}

std::optional<std::int64_t> step_of(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  const char* const end = name.data() + name.size() - kSuffix.size();
  const auto result = std::from_chars(name.data() + kPrefix.size(), end, step);
  return result.ec == std::errc() && result.ptr == end ? std::optional(step) : std::nullopt;
}

}  // namespace

RolloutJournal::RolloutJournal(std::filesystem::path folder, parallel::Communicator& world)
    : folder_(std::move(folder)), world_(&world) {}

std::filesystem::path RolloutJournal::path_of(std::int64_t step) const {
  std::ostringstream name;
  name << kPrefix << std::setfill('0') << std::setw(8) << step << kSuffix;
  return folder_ / name.str();
}

RolloutProgress RolloutJournal::load(std::int64_t step, const RolloutIdentity& identity) const {
  std::string bytes;
  parallel::agree(*world_, [&] {
    if (world_->rank() == 0 && std::filesystem::exists(path_of(step))) {
      bytes = read_file(path_of(step));
    }
  });
  const std::optional<RolloutState> state = unseal(parallel::broadcast_bytes(bytes, 0, *world_));
  RolloutProgress progress;
  if (!state || state->start() != identity.start || state->choices() != identity.choices) {
    return progress;
  }
  for (std::int64_t i = 0; i < state->samples_size(); ++i) {
    const SampleState& stored = state->samples(static_cast<int>(i));
    SampleProgress sample;
    sample.completion.tokens.assign(stored.tokens().begin(), stored.tokens().end());
    sample.completion.logprobs.assign(stored.logprobs().begin(), stored.logprobs().end());
    if (stored.has_score()) {
      sample.score = from_message(stored.score());
    }
    progress[{i / identity.group_size, i % identity.group_size}] = std::move(sample);
  }
  return progress;
}

void RolloutJournal::write(std::int64_t step, const RolloutIdentity& identity,
                           const RolloutProgress& progress) const {
  parallel::agree(*world_, [&] {
    if (world_->rank() != 0) {
      return;
    }
    RolloutState state;
    state.set_start(identity.start);
    state.set_choices(identity.choices);
    for (const auto& [place, sample] : progress) {
      SampleState& stored = *state.add_samples();
      stored.mutable_tokens()->Add(sample.completion.tokens.begin(),
                                   sample.completion.tokens.end());
      stored.mutable_logprobs()->Add(sample.completion.logprobs.begin(),
                                     sample.completion.logprobs.end());
      if (sample.score) {
        to_message(*sample.score, *stored.mutable_score());
      }
    }
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) {
      throw_io_error("make folder", folder_, error.value());
    }
    write_file_atomically(path_of(step), seal(state));
  });
}

void RolloutJournal::forget(std::int64_t step) const {
  std::error_code ignored;  // what stays behind is overwritten or left aside
  if (world_->rank() != 0 || !std::filesystem::is_directory(folder_, ignored)) {
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    const std::optional<std::int64_t> of = step_of(entry.path());
    if (of && *of <= step) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

std::vector<Score> broadcast_scores(const std::vector<Score>& scores,
                                    parallel::Communicator& world) {
  ScoreStates mine;
  for (const Score& score : scores) {
    to_message(score, *mine.add_scores());
  }
  ScoreStates all;
  FATHOM_CHECK(all.ParseFromString(parallel::broadcast_bytes(mine.SerializeAsString(), 0, world)),
               "scores that are none");
  std::vector<Score> received;
  for (const ScoreState& score : all.scores()) {
    received.push_back(from_message(score));
  }
  return received;
}

}  // namespace fathom::rl
