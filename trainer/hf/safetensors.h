#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/hf/weight_dtype.h"

namespace fathom::trainer {

// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes, the length of the
// header, little-endian; the header, JSON; then the tensors' elements, row-major and little-endian.
// The header is {"NAME": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__":
// {"KEY": "TEXT", ...}}, offsets counted from the end of the header.

// A tensor of a file.
struct SafetensorsEntry {
  std::string name;
  WeightDType dtype = WeightDType::kFloat32;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;  // bytes of the data

  std::int64_t size_bytes() const noexcept { return end - begin; }
  bool operator==(const SafetensorsEntry&) const = default;
};

// What a header may hold at most. The library that others read with stops at 100 MB too.
inline constexpr std::int64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr std::size_t kMaxSafetensorsTensors = 1'000'000;
inline constexpr std::size_t kMaxTensorNameBytes = 1024;
inline constexpr std::size_t kMaxTensorRank = 8;
inline constexpr std::int64_t kSafetensorsPrefixBytes = 8;

// The length of the header from the first 8 bytes of a file of `file_bytes` bytes. Throws
// ConfigError naming `origin` when there can be no such header.
std::int64_t safetensors_header_bytes(std::span<const std::byte> prefix, std::int64_t file_bytes,
                                      const std::string& origin);

// The tensors that `header` describes, by their place in the data, which is `data_bytes` long;
// empty ones in one place by their names. Pure and safe on any bytes; memory is that of the names.
// Throws ConfigError, naming `origin` and the tensor, unless the header is one JSON object that
// begins at its first byte, in UTF-8, without a doubled key; dtypes are those of weights; sizes are
// what shape and dtype make them; and the tensors cover the data from the first byte to the last
// without overlap.
std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view header,
                                                       std::int64_t data_bytes,
                                                       const std::string& origin);

// The first bytes of a file, length and header, up to a multiple of 8; the entries' data follows.
std::string write_safetensors_header(std::span<const SafetensorsEntry> entries);

}  // namespace fathom::trainer
