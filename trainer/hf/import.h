#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/hf/pieces.h"

namespace fathom::trainer {

struct ImportOptions {
  std::filesystem::path folder;     // config.json, tokenizer.json, safetensors
  std::filesystem::path tokenizer;  // empty: the folder's tokenizer.json
  std::filesystem::path out;        // the run folder to make; must not exist
  // Bytes of this rank; may be empty.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  std::int64_t piece_elements = kPieceElements;
};

struct ImportSummary {
  std::size_t num_tensors = 0;     // of the folder
  std::int64_t size_bytes = 0;     // of them
  std::vector<std::string> notes;  // what a user should know
};

// Makes a run folder of a Hugging Face one: a checkpoint of step 0 with weights and selection
// biases in float32, which any command takes on any layout, tokenizer.json, and model.textproto and
// chat.textproto for configs to name (model_from, data.chat_from). Collective over `world`: each
// rank converts its share into a file of its own, a piece at a time, and reads it back. All that
// config.json, tokenizer and headers say is checked before anything is written; whatever fails,
// `out` is not there, and every rank throws the same error: ConfigError for what the folder holds,
// IoError.
ImportSummary import_hf(const ImportOptions& options, parallel::Communicator& world);

}  // namespace fathom::trainer
