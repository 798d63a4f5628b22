#include "rl/rollout_report.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "data/json.h"
#include "rl/policy_update.h"
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

Json to_json(const RolloutGroup& group, std::size_t index, const SampleLines& lines) {
  const RolloutSample& sample = group.samples[index];
  const trainer::CompletionText text = lines.text(sample.completion);
  Json line = {{"id", group.problem.id},         {"sample", index},
               {"prompt", group.problem.prompt}, {"completion", text.shown},
               {"answer", group.problem.answer}, {"reward", to_json(sample.score.total)}};
  for (std::size_t i = 0; i < lines.names.size() && i < sample.score.parts.size(); ++i) {
    line["rewards"][lines.names[i]] = to_json(sample.score.parts[i].value);
    line["reasons"][lines.names[i]] = sample.score.parts[i].reason;
  }
  line["advantage"] = sample.advantage;
  line["learnt"] = is_learnt(group, sample, lines.loss);
  line["tokens"] = sample.completion.tokens.size();
  line["finish"] = trainer::to_text(sample.completion.finish);
  if (!text.stop.empty()) {
    line["stop"] = text.stop;
  }
  line["logprob"] = logprob_statistics(sample.completion.logprobs);
  return line;
}

// Puts the samples of a rollout together, in their order.
class Summing {
 public:
  explicit Summing(const PolicyLossOptions& loss) : loss_(&loss) {}

  void add(const RolloutGroup& group) {
    ++summary_.num_groups;
    summary_.num_learnt += std::ranges::any_of(group.samples, [&](const RolloutSample& sample) {
      return is_learnt(group, sample, *loss_);
    });
    spread_.add(group.has_spread ? 1.0 : 0.0);
    Mean& of_source = at(by_source_, static_cast<std::size_t>(group.source));
    for (const RolloutSample& sample : group.samples) {
      summary_.prompt_tokens += std::ssize(group.prompt);
      of_source.add(sample.score.total);
      add(sample);
    }
  }

  RolloutSummary take() {
    summary_.reward_mean = reward_.value();
    summary_.parts = values_of(parts_);
    summary_.by_source = values_of(by_source_);
    summary_.spread_share = spread_.value().value_or(0.0);
    summary_.truncated_share = truncated_.value().value_or(0.0);
    const auto num_samples = static_cast<double>(std::max<std::int64_t>(1, summary_.num_samples));
    const auto num_tokens =
        static_cast<double>(std::max<std::int64_t>(1, summary_.completion_tokens));
    summary_.mean_length = static_cast<double>(summary_.completion_tokens) / num_samples;
    summary_.entropy = -logprob_sum_ / num_tokens;
    return std::move(summary_);
  }

 private:
  static Mean& at(std::vector<Mean>& means, std::size_t index) {
    means.resize(std::max(means.size(), index + 1));
    return means[index];
  }
  static std::vector<std::optional<double>> values_of(const std::vector<Mean>& means) {
    std::vector<std::optional<double>> values;
    std::ranges::transform(means, std::back_inserter(values), &Mean::value);
    return values;
  }

  void add(const RolloutSample& sample) {
    const std::int64_t length = std::ssize(sample.completion.tokens);
    ++summary_.num_samples;
    summary_.completion_tokens += length;
    summary_.longest = std::max(summary_.longest, length);
    truncated_.add(sample.completion.finish == trainer::FinishReason::kLength ? 1.0 : 0.0);
    logprob_sum_ +=
        std::accumulate(sample.completion.logprobs.begin(), sample.completion.logprobs.end(), 0.0);
    summary_.num_without_verdict += sample.score.total ? 0 : 1;
    reward_.add(sample.score.total);
    for (std::size_t i = 0; i < sample.score.parts.size(); ++i) {
      at(parts_, i).add(sample.score.parts[i].value);
    }
  }

  const PolicyLossOptions* loss_;
  RolloutSummary summary_;
  Mean reward_, truncated_, spread_;
  std::vector<Mean> parts_, by_source_;
  double logprob_sum_ = 0;
};

}  // namespace

RolloutSummary summarize(const Rollout& rollout, const PolicyLossOptions& loss) {
  Summing summing(loss);
  for (const RolloutGroup& group : rollout.groups) {
    summing.add(group);
  }
  return summing.take();
}

std::string first_failure(const Rollout& rollout) {
  for (const RolloutGroup& group : rollout.groups) {
    for (const RolloutSample& sample : group.samples) {
      const auto& parts = sample.score.parts;
      const auto failed = std::ranges::find_if(parts, [](const auto& part) { return !part.value; });
      if (failed != parts.end()) {
        return failed->reason;
      }
    }
  }
  return "";
}

std::vector<trainer::Metric> to_metrics(const RolloutSummary& summary,
                                        const std::vector<std::string>& names, int num_sources) {
  std::vector<trainer::Metric> metrics = {{"groups_drawn", summary.num_groups},
                                          {"groups_learnt", summary.num_learnt},
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
  for (std::size_t i = 0; num_sources > 1 && i < summary.by_source.size(); ++i) {
    if (summary.by_source[i]) {
      metrics.push_back({concat("reward_mean_problems_", i), *summary.by_source[i]});
    }
  }
  return metrics;
}

void write_samples(const Rollout& rollout, const SampleLines& lines,
                   const std::filesystem::path& file) {
  std::string text;
  for (const RolloutGroup& group : rollout.groups) {
    for (std::size_t i = 0; i < group.samples.size(); ++i) {
      text += data::json_line(to_json(group, i, lines)) + '\n';
    }
  }
  create_folder_of(file);
  write_file_atomically(file, text);
}

}  // namespace fathom::rl
