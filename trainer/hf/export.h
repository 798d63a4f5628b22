#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "configs/run_config.h"
#include "data/tokenizer.h"
#include "parallel/comm/communicator.h"
#include "trainer/hf/pieces.h"
#include "trainer/hf/weight_dtype.h"

namespace fathom::trainer {

struct ExportOptions {
  std::filesystem::path checkpoint;            // .../step-NNNNNNNN
  std::filesystem::path out;                   // the folder to make; must not exist
  WeightDType dtype = WeightDType::kBFloat16;  // F32, BF16 or F8_E4M3
  std::int64_t max_file_bytes = 5'000'000'000;
  // Bytes of this rank; may be empty.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  std::int64_t piece_elements = kPieceElements;
};

struct ExportSummary {
  std::size_t num_tensors = 0;
  std::size_t num_files = 0;
  std::int64_t size_bytes = 0;
};

// Makes a Hugging Face folder of a checkpoint: config.json, generation_config.json, tokenizer.json,
// tokenizer_config.json with the chat template, and the weights as safetensors under their
// published names. `config` is that of the run that wrote it. Collective over `world`: each rank
// writes whole files, a piece of a tensor at a time, and checks every slice that it reads against
// its checksum. Whatever fails, `out` is not there, and every rank throws the same error:
// ConfigError for a model that Hugging Face cannot describe and for a damaged checkpoint, IoError.
ExportSummary export_hf(const ExportOptions& options, const config::RunConfig& config,
                        const data::Tokenizer& tokenizer, parallel::Communicator& world);

}  // namespace fathom::trainer
