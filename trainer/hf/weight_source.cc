#include "trainer/hf/weight_source.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "trainer/hf/block_scale.h"
#include "trainer/hf/pieces.h"

namespace fathom::trainer {
namespace {

std::string shape_text(std::span<const std::int64_t> sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    text += concat(i == 0 ? "" : ", ", sizes[i]);
  }
  return text + "]";
}

}  // namespace

template <class... Parts>
void WeightSource::fail(const std::string& tensor, const Parts&... parts) const {
  throw ConfigError(concat(folder_.path_of(tensor).string(), ": tensor ", tensor, ": ", parts...));
}

WeightSource::WeightSource(SafetensorsFolder& folder, std::span<const PublishedTensor> tensors,
                           bool has_block_scales)
    : folder_(folder), has_block_scales_(has_block_scales) {
  for (const PublishedTensor& tensor : tensors) {
    if (folder_.find(tensor.name) == nullptr && !tensor.copy_of.empty()) {
      continue;
    }
    const SafetensorsEntry& entry = require(tensor);
    if (entry.dtype == WeightDType::kFloat8E4M3) {
      check_scales(tensor, entry);
    }
    if (!tensor.copy_of.empty()) {
      copies_[tensor.copy_of].push_back(tensor.name);
    }
  }
  check_nothing_else();
}

const SafetensorsEntry& WeightSource::require(const PublishedTensor& tensor) {
  const SafetensorsEntry* entry = folder_.find(tensor.name);
  if (entry == nullptr) {
    throw ConfigError(concat(folder_.path().string(), ": tensor ", tensor.name,
                             " of the model that config.json describes is missing"));
  }
  if (!std::ranges::equal(entry->shape, tensor.shape.sizes())) {
    fail(tensor.name, "shape ", shape_text(entry->shape), ", but config.json makes it ",
         shape_text(tensor.shape.sizes()));
  }
  used_.insert(tensor.name);
  return *entry;
}

void WeightSource::check_scales(const PublishedTensor& tensor, const SafetensorsEntry& entry) {
  if (!has_block_scales_ || !tensor.is_block_scaled) {
    fail(tensor.name, "dtype ", entry.dtype, ", but ",
         has_block_scales_ ? "it is none of those that have scales"
                           : "config.json has no quantization_config");
  }
  const std::string name = scale_name(tensor.name);
  const SafetensorsEntry* scales = folder_.find(name);
  if (scales == nullptr) {
    fail(tensor.name, "its scales ", name, " are missing");
  }
  const std::vector<std::int64_t> shape{num_scale_blocks(tensor.shape[0]),
                                        num_scale_blocks(tensor.shape[1])};
  if (scales->dtype != WeightDType::kFloat32 || scales->shape != shape) {
    fail(name, scales->dtype, ' ', shape_text(scales->shape), ", wanted F32 ", shape_text(shape));
  }
  used_.insert(name);
}

void WeightSource::check_nothing_else() const {
  for (const std::string& name : folder_.names()) {
    if (!used_.contains(name)) {
      fail(name, "it is no part of the model that config.json describes");
    }
  }
}

void WeightSource::read(const PublishedTensor& tensor, const Rectangle& where,
                        std::span<float> values) {
  read_values(tensor, tensor.name, where, values);
  if (const auto wrong = find_not_finite(where, values)) {
    fail(tensor.name, *wrong);
  }
  const auto copies = copies_.find(tensor.name);
  if (copies == copies_.end()) {
    return;
  }
  copy_.resize(values.size());
  for (const std::string& copy : copies->second) {
    read_values(tensor, copy, where, copy_);
    if (std::memcmp(copy_.data(), values.data(), values.size_bytes()) != 0) {
      fail(copy, "differs from ", tensor.name, ", which Fathom shares with that layer");
    }
  }
}

void WeightSource::read_values(const PublishedTensor& tensor, const std::string& name,
                               const Rectangle& where, std::span<float> values) {
  const SafetensorsEntry& entry = *folder_.find(name);
  const std::int64_t columns = tensor.shape[-1];
  const std::int64_t first = where.row_begin * columns + where.column_begin;
  const std::int64_t size = size_of(entry.dtype);
  bytes_.resize(values.size() * static_cast<std::size_t>(size));
  folder_.read(entry, first * size, bytes_);
  if (entry.dtype != WeightDType::kFloat8E4M3) {
    decode_weights(entry.dtype, bytes_, values);
    return;
  }
  FATHOM_CHECK(where.row_begin % kScaleBlock == 0 && where.num_columns == columns, tensor.name, ' ',
               to_string(where));
  const std::int64_t scale_columns = num_scale_blocks(columns);
  scales_.resize(static_cast<std::size_t>(num_scale_blocks(where.num_rows) * scale_columns));
  folder_.read(*folder_.find(scale_name(name)),
               where.row_begin / kScaleBlock * scale_columns * std::int64_t{sizeof(float)},
               std::as_writable_bytes(std::span(scales_)));
  const auto* codes = reinterpret_cast<const std::uint8_t*>(bytes_.data());
  dequantize_blocks({codes, bytes_.size()}, scales_, columns, values);
}

}  // namespace fathom::trainer
