#include "cli/inspect_data.h"

#include <algorithm>
#include <set>

#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/validate.h"
#include "core/error.h"
#include "data/token_shard.h"
#include "data/training_data.h"
#include "optim/factory.h"
#include "trainer/token_data.h"

namespace fathom::cli {
namespace {

constexpr double kMegabyte = 1e6;

config::RunConfig load_run(const StepQuestion& question) {
  config::RunConfig config = config::load(question.config, question.overrides);
  // The ranks do not matter here: any mesh reads the same samples.
  constexpr int kAnyWorldSize = 0;
  config::resolve(config, {.world_size = kAnyWorldSize});
  config::validate(config, kAnyWorldSize);
  if (question.step > config.train().steps()) {
    throw ConfigError(
        concat("--step ", question.step, " is above train.steps (", config.train().steps(), ')'));
  }
  return config;
}

struct Samples {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

Samples samples_of_step(const config::RunConfig& config, std::int64_t step) {
  const optim::BatchRamp ramp = optim::make_batch_ramp(config);
  std::int64_t first = 0;
  for (std::int64_t done = 0; done < step - 1; ++done) {
    first += optim::global_batch_size(ramp, first * config.train().sequence_length());
  }
  return {first, optim::global_batch_size(ramp, first * config.train().sequence_length())};
}

std::set<std::filesystem::path> shard_files(const std::filesystem::path& path) {
  std::set<std::filesystem::path> files;
  if (!path.empty()) {
    for (const data::TokenShard& shard : data::open_token_shards({path})) {
      files.insert(std::filesystem::weakly_canonical(shard.path()));
    }
  }
  return files;
}

void print_sample(const data::SampleDescription& sample, std::ostream& out) {
  out << "sample " << sample.sample << " of " << sample.source << ", epoch " << sample.epoch
      << ", window " << sample.window << '\n';
  for (const auto& document : sample.documents) {
    out << "  " << document.shard.string() << " document " << document.document << ", tokens "
        << document.begin << " to " << document.begin + document.size - 1
        << (document.is_fim ? ", fill-in-the-middle\n" : "\n");
  }
}

}  // namespace

void print_shards(const std::filesystem::path& path, bool verifies, std::ostream& out) {
  const std::vector<data::TokenShard> shards = data::open_token_shards({path});
  std::int64_t num_documents = 0;
  std::int64_t num_tokens = 0;
  std::int64_t num_bytes = 0;
  for (const data::TokenShard& shard : shards) {
    out << shard.path().string() << "  " << shard.num_documents() << " documents, "
        << shard.num_tokens() << " tokens, " << static_cast<double>(shard.num_bytes()) / kMegabyte
        << " MB of text\n";
    if (verifies) {
      shard.verify();
    }
    num_documents += shard.num_documents();
    num_tokens += shard.num_tokens();
    num_bytes += shard.num_bytes();
  }
  const data::Vocabulary& vocabulary = shards.front().vocabulary();
  out << "all        " << shards.size() << " shards, " << num_documents << " documents, "
      << num_tokens << " tokens, " << static_cast<double>(num_bytes) / kMegabyte << " MB of text, "
      << static_cast<double>(num_bytes) / static_cast<double>(std::max<std::int64_t>(1, num_tokens))
      << " bytes a token\n"
      << "tokenizer  " << vocabulary.tokenizer_hash << ", " << vocabulary.vocab_size << " tokens\n";
  if (verifies) {
    out << "verified   every token\n";
  }
}

void print_step_samples(const StepQuestion& question, std::ostream& out) {
  const config::RunConfig config = load_run(question);
  const data::TrainingData training(trainer::make_training_data_options(config));
  const std::set<std::filesystem::path> wanted = shard_files(question.shards);
  const Samples samples = samples_of_step(config, question.step);
  out << "step " << question.step << ": samples " << samples.first << " to "
      << samples.first + samples.count - 1 << " of " << config.train().sequence_length()
      << " tokens\n";
  for (std::int64_t i = 0; i < samples.count; ++i) {
    const data::SampleDescription sample = training.describe(samples.first + i);
    const bool is_wanted =
        wanted.empty() ||
        std::any_of(sample.documents.begin(), sample.documents.end(), [&](const auto& document) {
          return wanted.count(std::filesystem::weakly_canonical(document.shard)) > 0;
        });
    if (is_wanted) {
      print_sample(sample, out);
    }
  }
}

}  // namespace fathom::cli
