#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/hf/published_tensors.h"
#include "trainer/hf/safetensors_folder.h"

namespace fathom::trainer {

// The weights of a model in float32, out of a Hugging Face folder.
class WeightSource {
 public:
  // Checks that the folder holds `tensors` and nothing else, in these shapes, FP8 codes with their
  // scales where `has_block_scales` and only there; copies may be left out. Borrows both. Throws
  // ConfigError naming file and tensor.
  WeightSource(SafetensorsFolder& folder, std::span<const PublishedTensor> tensors,
               bool has_block_scales);

  // values <- a piece (trainer/hf/pieces.h) of a tensor that is no copy. Throws ConfigError, naming
  // the tensor, where a value is not finite, or where one of its copies differs.
  void read(const PublishedTensor& tensor, const Rectangle& where, std::span<float> values);

 private:
  const SafetensorsEntry& require(const PublishedTensor& tensor);
  void check_scales(const PublishedTensor& tensor, const SafetensorsEntry& entry);
  void check_nothing_else() const;
  template <class... Parts>
  [[noreturn]] void fail(const std::string& tensor, const Parts&... parts) const;
  void read_values(const PublishedTensor& tensor, const std::string& name, const Rectangle& where,
                   std::span<float> values);

  SafetensorsFolder& folder_;
  const bool has_block_scales_;
  std::set<std::string> used_;
  std::map<std::string, std::vector<std::string>> copies_;  // by what they repeat
  std::vector<std::byte> bytes_;
  std::vector<float> scales_, copy_;
};

}  // namespace fathom::trainer
