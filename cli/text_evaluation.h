#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/session.h"
#include "cli/stored_model.h"
#include "data/evaluation_data.h"
#include "trainer/run_data.h"

namespace fathom::cli {

// A text whose loss is asked for.
struct HeldOutText {
  std::string path;  // as the user gave it
  std::unique_ptr<data::EvaluationData> data;
};

// `path` is text (.jsonl, .json, .ndjson: JSON lines {"text"}; any other file but .h5: plain), or
// what open_token_shards() takes. Text is cut into documents and tokenized as `fathom tokenize`
// does it. Throws ConfigError for shards of another tokenizer; ConfigError and IoError of the
// files.
HeldOutText open_text(const std::string& path, const StoredModel& stored);

struct TextScore {
  std::string path;
  trainer::EvaluationResult result;
};

// Loss of the first `num_sequences` sequences of each text (0: all of it), as pretraining evaluates
// data.validation. Collective.
std::vector<TextScore> score_texts(std::vector<HeldOutText> texts, std::int64_t num_sequences,
                                   const StoredModel& stored, LoadedModel& loaded,
                                   Session& session);

}  // namespace fathom::cli
