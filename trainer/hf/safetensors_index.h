#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fathom::trainer {

// model.safetensors.index.json: {"metadata": {"total_size": BYTES}, "weight_map": {"TENSOR":
// "FILE",
// ...}}, beside the files that it names.

// The file of each tensor, by its name. Pure and safe on any bytes. Throws ConfigError naming
// `origin` for doubled keys and for anything but the plain name of a .safetensors file: no folders,
// no "..", no absolute paths.
std::map<std::string, std::string> parse_safetensors_index(std::string_view content,
                                                           const std::string& origin);

std::string write_safetensors_index(const std::map<std::string, std::string>& files,
                                    std::int64_t total_bytes);

}  // namespace fathom::trainer
