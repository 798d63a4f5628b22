#include "trainer/hf/safetensors_plan.h"

#include <cstdio>
#include <map>

#include "core/error.h"
#include "trainer/hf/block_scale.h"
#include "trainer/hf/safetensors_folder.h"
#include "trainer/hf/safetensors_index.h"

namespace fathom::trainer {
namespace {

SafetensorsEntry entry_of(const std::string& name, WeightDType dtype,
                          std::span<const std::int64_t> sizes) {
  SafetensorsEntry entry{.name = name, .dtype = dtype, .shape = {sizes.begin(), sizes.end()}};
  entry.end = size_of(dtype);
  for (const std::int64_t size : sizes) {
    entry.end *= size;
  }
  return entry;
}

// The tensor's entries: itself, and its scales.
std::vector<SafetensorsEntry> entries_of(const PublishedTensor& tensor, WeightDType dtype) {
  const WeightDType own = dtype_in_release(tensor, dtype);
  std::vector<SafetensorsEntry> entries{entry_of(tensor.name, own, tensor.shape.sizes())};
  if (own == WeightDType::kFloat8E4M3) {
    const std::vector<std::int64_t> blocks{num_scale_blocks(tensor.shape[0]),
                                           num_scale_blocks(tensor.shape[1])};
    entries.push_back(entry_of(scale_name(tensor.name), WeightDType::kFloat32, blocks));
  }
  return entries;
}

std::string file_name(std::size_t number, std::size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number, count);
  return name;
}

}  // namespace

WeightDType dtype_in_release(const PublishedTensor& tensor, WeightDType dtype) noexcept {
  if (tensor.is_float32) {
    return WeightDType::kFloat32;
  }
  return dtype == WeightDType::kFloat8E4M3 && !tensor.is_block_scaled ? WeightDType::kBFloat16
                                                                      : dtype;
}

std::vector<PlannedFile> plan_safetensors(std::span<const PublishedTensor> tensors,
                                          WeightDType dtype, std::int64_t max_bytes) {
  std::vector<PlannedFile> files(1);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<SafetensorsEntry> entries = entries_of(tensors[i], dtype);
    std::int64_t bytes = 0;
    for (const SafetensorsEntry& entry : entries) {
      bytes += entry.size_bytes();
    }
    if (!files.back().items.empty() && files.back().data_bytes() + bytes > max_bytes) {
      files.emplace_back();
    }
    PlannedFile& file = files.back();
    file.items.push_back({.tensor = i, .entry = file.entries.size(), .scales = 0});
    for (SafetensorsEntry& entry : entries) {
      entry.begin = file.data_bytes();
      entry.end += entry.begin;
      file.entries.push_back(std::move(entry));
    }
    file.items.back().scales = file.entries.size() - 1;
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name =
        files.size() == 1 ? std::string(kSafetensorsName) : file_name(i + 1, files.size());
  }
  return files;
}

std::string write_safetensors_index(std::span<const PlannedFile> files) {
  std::int64_t total = 0;
  std::map<std::string, std::string> map;
  for (const PlannedFile& file : files) {
    total += file.data_bytes();
    for (const SafetensorsEntry& entry : file.entries) {
      map.emplace(entry.name, file.name);
    }
  }
  return write_safetensors_index(map, total);
}

}  // namespace fathom::trainer
