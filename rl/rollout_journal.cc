#include "rl/rollout_journal.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>

#include "configs/schema/rollout_state.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "parallel/comm/agree.h"
#include "rl/rewards/score_state.h"

namespace fathom::rl {
namespace {

constexpr std::string_view kStep = "step-";
constexpr std::string_view kGroup = "group-";
constexpr std::string_view kGroupSuffix = ".pb";
constexpr std::string_view kUnfinishedSuffix = ".pb.tmp";  // of a writing that was killed

// The number of a name that numbered_name() makes; nothing for others.
std::optional<std::int64_t> number_of(const std::filesystem::path& path, std::string_view prefix,
                                      std::string_view suffix) {
  const std::string name = path.filename().string();
  if (name.size() <= prefix.size() + suffix.size()) {
    return std::nullopt;
  }
  std::int64_t number = 0;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size() - suffix.size(), number);
  return name == numbered_name(prefix, number, suffix) ? std::optional(number) : std::nullopt;
}

// Nothing, and an error, of a folder that cannot be read.
std::vector<std::filesystem::path> list(const std::filesystem::path& folder,
                                        std::error_code& error) {
  std::vector<std::filesystem::path> paths;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator at(folder, error); !error && at != end;
       at.increment(error)) {
    paths.push_back(at->path());
  }
  return error ? std::vector<std::filesystem::path>{} : paths;
}

GroupState to_message(std::int64_t number, const RolloutIdentity& identity,
                      const GroupProgress& group) {
  FATHOM_CHECK(std::ssize(group.completions) == identity.group_size &&
                   (group.scores.empty() || group.scores.size() == group.completions.size()),
               "group ", number, ": ", group.completions.size(), " completions and ",
               group.scores.size(), " scores of ", identity.group_size, " samples");
  GroupState state;
  state.set_start(identity.start);
  state.set_choices(identity.choices);
  state.set_group(number);
  for (std::size_t i = 0; i < group.completions.size(); ++i) {
    const trainer::Completion& completion = group.completions[i];
    SampleState& sample = *state.add_samples();
    sample.mutable_tokens()->Add(completion.tokens.begin(), completion.tokens.end());
    sample.mutable_logprobs()->Add(completion.logprobs.begin(), completion.logprobs.end());
    if (!group.scores.empty()) {
      to_message(group.scores[i], *sample.mutable_score());
    }
  }
  return state;
}

// Whether the group is whole and of this rollout.
bool is_of_use(const GroupState& state, std::int64_t number, const RolloutIdentity& identity) {
  const auto num_scored = std::ranges::count_if(
      state.samples(), [](const SampleState& sample) { return sample.has_score(); });
  return state.start() == identity.start && state.choices() == identity.choices &&
         state.has_group() && state.group() == number &&
         state.samples_size() == identity.group_size &&
         (num_scored == 0 || num_scored == state.samples_size()) &&
         std::ranges::all_of(state.samples(), [](const SampleState& sample) {
           return sample.tokens_size() == sample.logprobs_size();
         });
}

GroupProgress from_message(const GroupState& state) {
  GroupProgress group;
  for (const SampleState& sample : state.samples()) {
    trainer::Completion& completion = group.completions.emplace_back();
    completion.tokens.assign(sample.tokens().begin(), sample.tokens().end());
    completion.logprobs.assign(sample.logprobs().begin(), sample.logprobs().end());
    if (sample.has_score()) {
      group.scores.push_back(from_message(sample.score()));
    }
  }
  return group;
}

template <class Message>
std::string serialize(const Message& message) {
  const std::size_t size = message.ByteSizeLong();
  std::string bytes;
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
      !message.SerializeToString(&bytes)) {
    throw IoError(concat("a group of samples cannot be written: ", size, " bytes, of ",
                         std::numeric_limits<int>::max(),
                         " that there may be: set grpo.group_size or rollout.max_new_tokens "
                         "lower, or rollout.checkpoint_interval to 0"));
  }
  return bytes;
}

std::string seal(const GroupState& state) {
  SealedGroup sealed;
  sealed.set_state(serialize(state));
  sealed.set_xxh3_64(data::checksum(sealed.state()));
  return serialize(sealed);
}

// The bytes of a GroupState; nothing when they are not what was written.
std::optional<std::string> unseal(const std::string& bytes) {
  SealedGroup sealed;
  if (!sealed.ParseFromString(bytes) || sealed.xxh3_64() != data::checksum(sealed.state())) {
    return std::nullopt;
  }
  return std::move(*sealed.mutable_state());
}

}  // namespace

RolloutJournal::RolloutJournal(std::filesystem::path folder, parallel::Communicator& world)
    : folder_(std::move(folder)), world_(&world) {}

std::filesystem::path RolloutJournal::folder_of(std::int64_t step) const {
  return folder_ / numbered_name(kStep, step, "");
}

RolloutProgress RolloutJournal::load(std::int64_t step, const RolloutIdentity& identity) const {
  RolloutProgress progress;
  data::Checksum64 checksum;
  parallel::agree(*world_, [&] {
    std::error_code error;
    std::vector<std::filesystem::path> paths = list(folder_of(step), error);
    if (error && error != std::errc::no_such_file_or_directory) {
      throw_io_error("read folder", folder_of(step), error.value());
    }
    std::ranges::sort(paths);  // of equal contents equal checksums
    for (const std::filesystem::path& path : paths) {
      const std::optional<std::int64_t> number = number_of(path, kGroup, kGroupSuffix);
      if (!number) {
        continue;
      }
      const std::optional<std::string> bytes = unseal(read_file(path));
      GroupState state;
      if (bytes && state.ParseFromString(*bytes) && is_of_use(state, *number, identity)) {
        checksum.add(std::as_bytes(std::span(*bytes)));
        progress.groups[*number] = from_message(state);
      } else {
        ++progress.num_left_aside;
      }
    }
  });
  const std::int64_t mine = std::bit_cast<std::int64_t>(checksum.value());
  std::vector<std::int64_t> all(static_cast<std::size_t>(world_->world_size()));
  world_->all_gather_integers({&mine, 1}, all);
  if (std::ranges::any_of(all, [&](std::int64_t other) { return other != all.front(); })) {
    progress.num_left_aside += std::ssize(progress.groups);
    progress.groups.clear();
  }
  return progress;
}

void RolloutJournal::write(
    std::int64_t step, const RolloutIdentity& identity, std::span<const std::int64_t> numbers,
    const std::function<GroupProgress(std::int64_t number)>& progress_of) const {
  parallel::agree(*world_, [&] {
    for (const std::int64_t number : numbers) {
      if (number % world_->world_size() != world_->rank()) {
        continue;
      }
      std::error_code error;
      std::filesystem::create_directories(folder_of(step), error);
      if (error) {
        throw_io_error("make folder", folder_of(step), error.value());
      }
      write_file_atomically(folder_of(step) / numbered_name(kGroup, number, kGroupSuffix),
                            seal(to_message(number, identity, progress_of(number))));
    }
  });
}

void RolloutJournal::forget(std::int64_t step) const {
  if (world_->rank() != 0) {
    return;
  }
  std::error_code ignored;  // what stays behind is overwritten or left aside
  for (const std::filesystem::path& folder : list(folder_, ignored)) {
    const std::optional<std::int64_t> of = number_of(folder, kStep, "");
    if (!of || *of > step || !is_directory(symlink_status(folder, ignored))) {
      continue;
    }
    for (const std::filesystem::path& file : list(folder, ignored)) {
      if (number_of(file, kGroup, kGroupSuffix) || number_of(file, kGroup, kUnfinishedSuffix)) {
        std::filesystem::remove(file, ignored);
      }
    }
    std::filesystem::remove(folder, ignored);  // refused while something else is in it
  }
}

}  // namespace fathom::rl
