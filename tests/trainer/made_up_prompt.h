#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/rng.h"
#include "trainer/generation/sequence.h"

namespace fathom::testing {

// `length` tokens below 64, drawn from the id.
inline trainer::Prompt made_up_prompt(std::string id, std::int64_t length,
                                      std::int64_t sample = 0) {
  trainer::Prompt prompt{.id = std::move(id), .sample = sample, .tokens = {}};
  const RandomSource random(2, prompt.id);
  for (std::int64_t i = 0; i < length; ++i) {
    prompt.tokens.push_back(
        static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), 64)));
  }
  return prompt;
}

}  // namespace fathom::testing
