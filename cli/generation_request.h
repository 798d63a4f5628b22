#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/stored_model.h"
#include "trainer/generation/sequence.h"
#include "trainer/generation/text.h"

namespace fathom::cli {

// What commands that draw completions are told about the drawing: --samples, --max_new_tokens,
// --temperature, --top_k, --top_p, --stop, --seed, --batch, --cache, --cache_tokens,
// --chat.
struct GenerationRequest {
  std::int64_t num_samples = 1;  // completions of each prompt
  std::vector<std::string> stop;
  bool is_chat = false;  // the run's chat template stands around each prompt

  // What ends a model's completions. Throws ConfigError where the tokenizer lacks what the chat
  // template needs.
  trainer::CompletionEnd end_for(const StoredModel& stored) const;
  // The options for a model's vocabulary and this end; without --seed and --cache as the run says.
  // Borrows the tokenizer. Throws ConfigError for a cache of latents where numerics.mode is EXACT.
  trainer::GenerationOptions options_for(const StoredModel& stored,
                                         const trainer::CompletionEnd& end) const;

  trainer::GenerationOptions options;  // as far as the command line says them
  std::optional<std::uint64_t> seed;
  std::optional<model::CacheForm> cache;
};

std::vector<OptionSpec> generation_option_specs();
// Throws ConfigError.
GenerationRequest read_generation_request(const ParsedOptions& given);

}  // namespace fathom::cli
