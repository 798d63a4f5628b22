#include "trainer/hf/safetensors_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/json.h"
#include "trainer/hf/safetensors.h"

namespace fathom::trainer {
namespace {

constexpr std::size_t kMaxFileNameBytes = 255;

bool is_plain_name(std::string_view name) {
  return name.size() <= kMaxFileNameBytes && !name.starts_with('.') &&
         name.ends_with(".safetensors") && std::all_of(name.begin(), name.end(), [](char letter) {
           const auto byte = static_cast<unsigned char>(letter);
           return byte > 0x20 && byte != 0x7f && letter != '/' && letter != '\\';
         });
}

}  // namespace

std::map<std::string, std::string> parse_safetensors_index(std::string_view content,
                                                           const std::string& origin) {
  const nlohmann::json index = data::parse_json(content, origin);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    throw ConfigError(concat(origin, ": no object \"weight_map\""));
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (tensor.size() > kMaxTensorNameBytes) {
      throw ConfigError(concat(origin, ": a tensor name of ", tensor.size(), " bytes, at most ",
                               kMaxTensorNameBytes, " are allowed"));
    }
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      throw ConfigError(concat(origin, ": tensor ", tensor,
                               " is said to be in something else than a file NAME.safetensors of "
                               "the same folder: ",
                               file.dump(-1, ' ', true).substr(0, kMaxFileNameBytes)));
    }
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

std::string write_safetensors_index(const std::map<std::string, std::string>& files,
                                    std::int64_t total_bytes) {
  const nlohmann::json index{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", files}};
  return index.dump(2) + '\n';
}

}  // namespace fathom::trainer
