#include "tests/trainer/recorded_run.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/hexadecimal.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/made_up_data.h"
#include "trainer/data_task.h"
#include "trainer/generation/generator.h"
#include "trainer/likelihood.h"
#include "trainer/training_loop.h"

namespace fathom::testing {
namespace {

using nlohmann::ordered_json;
using trainer::Completion;
using trainer::Prompt;
using trainer::TrainingLoop;

bool is_of_the_layout(const std::string& metric) {
  return metric.ends_with("_ms") || metric.ends_with("_per_s") || metric == "folder" ||
         metric == "peak_memory_bytes" || metric.starts_with("bytes_sent_");
}

// Each value of an object, those of objects in it one by one.
void add_values(const std::string& prefix, const ordered_json& object, RunRecord& record) {
  for (const auto& [key, value] : object.items()) {
    const std::string name = concat(prefix, ' ', key);
    if (value.is_object()) {
      add_values(name, value, record);
    } else if (!is_of_the_layout(key)) {
      record.emplace_back(name, value.dump());
    }
  }
}

void add_lines(const std::filesystem::path& file, RunRecord& record) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto object = ordered_json::parse(line);
    if (object.value("event", "") != "checkpoint") {
      add_values(concat("step ", object.at("step").dump()), object, record);
    }
  }
}

trainer::RunData open_data(const config::RunConfig& config) {
  trainer::RunSources sources;
  sources.training = made_up_training_data(config);
  sources.held_out = made_up_held_out_data(config);
  return {config, std::move(sources)};
}

// The log-likelihood of a completion as the training forward has it.
std::vector<double> likelihoods_of(const std::vector<Prompt>& prompts,
                                   const std::vector<Completion>& completions, TrainingLoop& loop) {
  std::vector<trainer::ScoredText> texts;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (!completions[i].tokens.empty()) {
      texts.push_back({prompts[i].tokens, prompts[i].tokens.size()});
      texts.back().tokens.insert(texts.back().tokens.end(), completions[i].tokens.begin(),
                                 completions[i].tokens.end());
    }
  }
  const config::Train& train = loop.config().train();
  return trainer::log_likelihoods(
      texts, loop.model(), loop.mesh(), loop.stream(),
      {.sequence_length = train.sequence_length(), .micro_batch_size = train.micro_batch_size()});
}

void add_samples(const DrawnLayout& layout, const std::vector<Prompt>& prompts, TrainingLoop& loop,
                 RunRecord& record) {
  const auto completions = trainer::Generator(loop.model(), loop.mesh(), loop.stream())
                               .generate(prompts, layout.generation);
  const std::vector<double> likelihoods = likelihoods_of(prompts, completions, loop);
  const float temperature = layout.generation.sampling.temperature;
  std::size_t scored = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Completion& completion = completions[i];
    double sum = 0.0;
    for (std::size_t j = 0; j < completion.tokens.size(); ++j) {
      sum += completion.logprobs[j];
      record.emplace_back(
          concat("prompt ", i, " token ", j),
          concat(completion.tokens[j], ", log-probability ", hexadecimal(completion.logprobs[j])));
    }
    record.emplace_back(concat("prompt ", i, " tokens"), concat(completion.tokens.size()));
    if (completion.tokens.empty()) {
      continue;
    }
    const double likelihood = likelihoods[scored++];
    record.emplace_back(concat("likelihood of completion ", i), hexadecimal(likelihood));
    FATHOM_CHECK(likelihood == sum || (temperature != 1.0F && temperature != 0.0F), "completion ",
                 i, ": log-probabilities ", sum, ", by the training forward ", likelihood);
  }
}

struct Attempt {
  const DrawnLayout& layout;
  const std::filesystem::path& folder;
  trainer::ResumeStep resume;
  std::int64_t checkpoint_interval = 0;
};

// -> completions and likelihoods
RunRecord take_on_ranks(const Attempt& attempt, const std::vector<Prompt>& prompts,
                        const RecordOptions& options) {
  RunRecord record;
  test::run_ranks(attempt.layout.num_ranks, [&](parallel::Communicator& real_world, Stream&) {
    const auto wrapped = options.wrap ? options.wrap(real_world) : nullptr;
    parallel::Communicator& world = wrapped ? *wrapped : real_world;
    config::RunConfig config = attempt.layout.config;
    config.mutable_run()->set_directory(attempt.folder.string());
    config.mutable_checkpoint()->set_directory((attempt.folder / "checkpoints").string());
    config.mutable_checkpoint()->set_interval(attempt.checkpoint_interval);
    if (options.seed_of_rank) {
      config.mutable_run()->set_seed(config.run().seed() + options.seed_of_rank(world.rank()));
    }
    parallel::Heartbeat heartbeat;
    trainer::RunData data = open_data(config);
    TrainingLoop loop(config, "", {world, Device{}, heartbeat, [](const std::string&) {}});
    trainer::DataTask task(loop, data);
    loop.run(attempt.resume, task, [] {});
    RunRecord samples;
    add_samples(attempt.layout, prompts, loop, samples);
    if (world.rank() == 0) {
      record = std::move(samples);
    }
  });
  return record;
}

}  // namespace

RunRecord take_run(const DrawnLayout& layout, const std::vector<Prompt>& prompts,
                   const RecordOptions& options) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "log");
  trainer::ResumeStep resume;
  if (options.begins_on != nullptr) {
    take_on_ranks({*options.begins_on, folder.path(), std::nullopt, options.resume_step}, {},
                  options);
    resume = options.resume_step;
  }
  const RunRecord samples = take_on_ranks({layout, folder.path(), resume}, prompts, options);
  RunRecord record;
  add_lines(folder.path() / "trace.jsonl", record);
  add_lines(folder.path() / "metrics.jsonl", record);
  record.insert(record.end(), samples.begin(), samples.end());
  return record;
}

std::string difference(const RunRecord& want, const RunRecord& found) {
  for (std::size_t i = 0; i < std::min(want.size(), found.size()); ++i) {
    if (want[i] != found[i]) {
      return concat(want[i].first, ": ", want[i].second, ", but ",
                    found[i].first == want[i].first ? "" : found[i].first + ": ", found[i].second);
    }
  }
  return want.size() == found.size()
             ? ""
             : concat("records of ", want.size(), " and ", found.size(), " entries");
}

}  // namespace fathom::testing
