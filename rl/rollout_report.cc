#include "rl/rollout_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>

#include "core/error.h"
#include "core/file.h"
#include "trainer/generation/text.h"

namespace fathom::rl {
namespace {

using Json = nlohmann::ordered_json;

class Mean {
 public:
  void add(const std::optional<double>& value) {
    sum_ += value.value_or(0.0);
    count_ += value ? 1 : 0;
  }
  std::optional<double> value() const {
    return count_ == 0 ? std::nullopt : std::optional(sum_ / static_cast<double>(count_));
  }

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

Json to_json(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json logprob_statistics(const std::vector<float>& logprobs) {
  if (logprobs.empty()) {
    return nullptr;
  }
  const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
  return {{"mean", sum / static_cast<double>(logprobs.size())},
          {"min", *std::min_element(logprobs.begin(), logprobs.end())},
          {"sum", sum}};
}

Json to_json(const RolloutGroup& group, std::size_t index, const std::vector<std::string>& names) {
  const RolloutSample& sample = group.samples[index];
  Json line = {{"id", group.problem.id},         {"sample", index},
               {"prompt", group.problem.prompt}, {"completion", sample.text.shown},
               {"answer", group.problem.answer}, {"reward", to_json(sample.score.total)}};
  for (std::size_t i = 0; i < names.size() && i < sample.score.parts.size(); ++i) {
    line["rewards"][names[i]] = to_json(sample.score.parts[i].value);
    line["reasons"][names[i]] = sample.score.parts[i].reason;
  }
  line["advantage"] = sample.advantage;
  line["learnt"] = group.is_kept;
  line["tokens"] = sample.completion.tokens.size();
  line["finish"] = trainer::to_text(sample.completion.finish);
  if (!sample.text.stop.empty()) {
    line["stop"] = sample.text.stop;
  }
  line["logprob"] = logprob_statistics(sample.completion.logprobs);
  return line;
}

}  // namespace

RolloutSummary summarize(const Rollout& rollout) {
  RolloutSummary summary;
  Mean reward;
  std::vector<Mean> parts;
  Mean truncated;
  Mean spread;
  double logprob_sum = 0;
  for (const RolloutGroup& group : rollout.groups) {
    ++summary.num_groups;
    summary.num_kept += group.is_kept ? 1 : 0;
    spread.add(group.has_spread ? 1.0 : 0.0);
    for (const RolloutSample& sample : group.samples) {
      const std::int64_t length = std::ssize(sample.completion.tokens);
      ++summary.num_samples;
      summary.prompt_tokens += std::ssize(group.prompt);
      summary.completion_tokens += length;
      summary.longest = std::max(summary.longest, length);
      truncated.add(sample.completion.finish == trainer::FinishReason::kLength ? 1.0 : 0.0);
      logprob_sum += std::accumulate(sample.completion.logprobs.begin(),
                                     sample.completion.logprobs.end(), 0.0);
      summary.num_without_verdict += sample.score.total ? 0 : 1;
      reward.add(sample.score.total);
      parts.resize(std::max(parts.size(), sample.score.parts.size()));
      for (std::size_t i = 0; i < sample.score.parts.size(); ++i) {
        parts[i].add(sample.score.parts[i].value);
      }
    }
  }
  summary.reward_mean = reward.value();
  for (const Mean& part : parts) {
    summary.parts.push_back(part.value());
  }
  summary.spread_share = spread.value().value_or(0.0);
  summary.truncated_share = truncated.value().value_or(0.0);
  const auto num_samples = static_cast<double>(std::max<std::int64_t>(1, summary.num_samples));
  const auto num_tokens = static_cast<double>(std::max<std::int64_t>(1, summary.completion_tokens));
  summary.mean_length = static_cast<double>(summary.completion_tokens) / num_samples;
  summary.entropy = -logprob_sum / num_tokens;
  return summary;
}

std::vector<trainer::Metric> to_metrics(const RolloutSummary& summary,
                                        const std::vector<std::string>& names) {
  std::vector<trainer::Metric> metrics = {{"groups_drawn", summary.num_groups},
                                          {"groups_learnt", summary.num_kept},
                                          {"groups_with_spread", summary.spread_share},
                                          {"samples", summary.num_samples},
                                          {"samples_without_verdict", summary.num_without_verdict},
                                          {"completion_length_mean", summary.mean_length},
                                          {"completion_length_max", summary.longest},
                                          {"truncated_share", summary.truncated_share},
                                          {"entropy", summary.entropy}};
  if (summary.reward_mean) {
    metrics.push_back({"reward_mean", *summary.reward_mean});
  }
  for (std::size_t i = 0; i < summary.parts.size(); ++i) {
    if (summary.parts[i]) {
      metrics.push_back({concat("reward_", names[i]), *summary.parts[i]});
    }
  }
  return metrics;
}

void write_samples(const Rollout& rollout, const std::vector<std::string>& names,
                   const std::filesystem::path& file) {
  std::string lines;
  for (const RolloutGroup& group : rollout.groups) {
    for (std::size_t i = 0; i < group.samples.size(); ++i) {
      // A completion may end within a character.
      lines += to_json(group, i, names).dump(-1, ' ', false, Json::error_handler_t::replace);
      lines += '\n';
    }
  }
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  if (error) {
    throw_io_error("make folder", file.parent_path(), error.value());
  }
  write_file_atomically(file, lines);
}

}  // namespace fathom::rl
