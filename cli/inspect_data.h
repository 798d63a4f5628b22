#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

namespace fathom::cli {

// Each shard in a line, then all together. `verifies`: reads all tokens too. Throws IoError and
// ConfigError naming the file.
void print_shards(const std::filesystem::path& path, bool verifies, std::ostream& out);

struct StepQuestion {
  std::int64_t step = 1;  // the first step is 1, as in metrics.jsonl
  std::filesystem::path config;
  std::vector<std::string> overrides;
  std::filesystem::path shards;  // only samples that read from these; empty: all
};
// The samples of the step's global batch in order, and the documents that each is made of.
void print_step_samples(const StepQuestion& question, std::ostream& out);

}  // namespace fathom::cli
