#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "configs/run_config.h"
#include "trainer/hf/weight_dtype.h"

namespace fathom::trainer {

// config.json of DeepSeek-V2, V2-Lite and V3 as our Model: what its weights compute, nothing of how
// it was trained. Pure and safe on any JSON. Throws ConfigError naming `origin` and the field that
// is missing, impossible, or of a model that Fathom does not have.
config::Model read_model_config(const nlohmann::json& json, const std::string& origin);

// Whether its weights are FP8 codes with scales (trainer/hf/block_scale.h). Throws ConfigError for
// any other quantization.
bool has_block_scales(const nlohmann::json& json, const std::string& origin);

// The numbers of tokens in config.json; negative: none.
struct SpecialIds {
  std::int64_t bos = -1;
  std::int64_t eos = -1;
};

// The other way, with weights of `dtype`, in the form that published models have it, which all
// versions of transformers read. Throws ConfigError naming the field of `model` that
// config.json cannot say, or that transformers computes otherwise.
nlohmann::ordered_json write_model_config(const config::Model& model, WeightDType dtype,
                                          const SpecialIds& ids);

}  // namespace fathom::trainer
