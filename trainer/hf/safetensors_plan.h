#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/hf/published_tensors.h"
#include "trainer/hf/safetensors.h"

namespace fathom::trainer {

// A file to write: its header, and which tensors its data are.
struct PlannedFile {
  struct Item {
    std::size_t tensor = 0;  // index in the list
    std::size_t entry = 0;   // its codes or values
    std::size_t scales = 0;  // their scales, where they are FP8
  };
  std::string name;
  std::vector<SafetensorsEntry> entries;
  std::vector<Item> items;

  std::int64_t data_bytes() const noexcept { return entries.empty() ? 0 : entries.back().end; }
};

// The element type of a tensor in a release of `dtype`: with FP8 what has no scales is BF16.
WeightDType dtype_in_release(const PublishedTensor& tensor, WeightDType dtype) noexcept;

// The files of a release, each with at most `max_bytes` of data unless a tensor alone has more:
// model.safetensors, or model-00001-of-000NN.safetensors and so on.
std::vector<PlannedFile> plan_safetensors(std::span<const PublishedTensor> tensors,
                                          WeightDType dtype, std::int64_t max_bytes);

// model.safetensors.index.json for them.
std::string write_safetensors_index(std::span<const PlannedFile> files);

}  // namespace fathom::trainer
