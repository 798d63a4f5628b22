#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "parallel/mesh.h"
#include "trainer/train_step.h"

namespace fathom::trainer {

struct TextSamplingOptions {
  std::int64_t num_tokens = 64;
  double temperature = 0.8;  // 0: the likeliest token
  std::uint64_t seed = 0;
  std::int64_t max_position = 0;
};

// Continues `prompt` by repeated forwards of the whole text, in the layout that trains -> prompt
// and continuation as text. Random numbers are keyed by (seed, prompt, position, vocabulary id), so
// the text does not depend on the layout. Collective over the mesh; all ranks return it. Ends early
// at the end-of-sentence token or at max_position.
std::string sample_text(TrainStep& step, const data::Tokenizer& tokenizer,
                        std::vector<std::int32_t> prompt, const TextSamplingOptions& options,
                        const parallel::Mesh& mesh, Stream& stream);

}  // namespace fathom::trainer
