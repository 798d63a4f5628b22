#include "trainer/hf/safetensors_folder.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "trainer/hf/plain_file.h"
#include "trainer/hf/safetensors_index.h"

namespace fathom::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxIndexBytes = std::int64_t{32} << 20;  // DeepSeek-V3's has 9 MB
constexpr std::size_t kMaxOpenFiles = 64;

}  // namespace

SafetensorsFolder::SafetensorsFolder(fs::path folder)
    : folder_(std::move(folder)), open_(kMaxOpenFiles) {
  std::error_code error;
  const fs::path single = folder_ / kSafetensorsName;
  const fs::path index_path = folder_ / kSafetensorsIndexName;
  const bool has_single = fs::exists(fs::symlink_status(single, error));
  const bool has_index = fs::exists(fs::symlink_status(index_path, error));
  if (has_single == has_index) {
    throw ConfigError(concat(folder_.string(), " has ", has_single ? "both " : "neither ",
                             kSafetensorsName, has_single ? " and " : " nor ",
                             kSafetensorsIndexName, ": wanted is one of them"));
  }
  std::map<std::string, std::string> index;
  std::set<std::string> names{std::string(kSafetensorsName)};
  if (has_index) {
    index =
        parse_safetensors_index(read_plain_file(index_path, kMaxIndexBytes), index_path.string());
    names.clear();
    for (const auto& [tensor, file] : index) {
      names.insert(file);
    }
  }
  for (const std::string& name : names) {
    files_.push_back(open_file(folder_ / name));
    for (std::size_t i = 0; i < files_.back().entries.size(); ++i) {
      const SafetensorsEntry& entry = files_.back().entries[i];
      const auto [found, is_new] = places_.emplace(entry.name, Place{files_.size() - 1, i});
      if (!is_new) {
        throw ConfigError(concat(files_.back().path.string(), ": tensor ", entry.name, " is in ",
                                 files_[found->second.file].path.string(), " too"));
      }
      size_bytes_ += entry.size_bytes();
    }
  }
  if (has_index) {
    check_index(index);
  }
}

SafetensorsFolder::File SafetensorsFolder::open_file(const fs::path& path) {
  require_plain_file(path);
  const ShardFile file = ShardFile::open_for_reading(path);
  const std::int64_t size = file.size_bytes();
  std::vector<std::byte> prefix(static_cast<std::size_t>(std::min(size, kSafetensorsPrefixBytes)));
  file.read_at(0, prefix);
  const std::int64_t header_bytes = safetensors_header_bytes(prefix, size, path.string());
  std::string header(static_cast<std::size_t>(header_bytes), '\0');
  file.read_at(kSafetensorsPrefixBytes, std::as_writable_bytes(std::span(header)));
  const std::int64_t data_begin = kSafetensorsPrefixBytes + header_bytes;
  return {.path = path,
          .data_begin = data_begin,
          .entries = parse_safetensors_header(header, size - data_begin, path.string())};
}

void SafetensorsFolder::check_index(const std::map<std::string, std::string>& index) const {
  for (const auto& [tensor, file] : index) {
    const auto place = places_.find(tensor);
    if (place == places_.end() || files_[place->second.file].path.filename() != file) {
      throw ConfigError(concat((folder_ / file).string(), ": tensor ", tensor, ", which ",
                               kSafetensorsIndexName, " says it has, is missing"));
    }
  }
  for (const auto& [tensor, place] : places_) {
    if (!index.contains(tensor)) {
      throw ConfigError(concat(files_[place.file].path.string(), ": tensor ", tensor, " is not in ",
                               kSafetensorsIndexName));
    }
  }
}

const SafetensorsEntry* SafetensorsFolder::find(const std::string& name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr
                                : &files_[place->second.file].entries[place->second.entry];
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) {
    names.push_back(name);
  }
  return names;
}

fs::path SafetensorsFolder::path_of(const std::string& name) const {
  const auto place = places_.find(name);
  FATHOM_CHECK(place != places_.end(), name);
  return files_[place->second.file].path;
}

void SafetensorsFolder::read(const SafetensorsEntry& entry, std::int64_t offset,
                             std::span<std::byte> out) {
  FATHOM_CHECK(offset >= 0 && offset + std::ssize(out) <= entry.size_bytes(), entry.name, ": ",
               out.size(), " bytes at ", offset, " of ", entry.size_bytes());
  const auto place = places_.find(entry.name);
  FATHOM_CHECK(place != places_.end(), entry.name);
  const File& file = files_[place->second.file];
  open_.get(file.path, [&] { return ShardFile::open_for_reading(file.path); })
      ->read_at(file.data_begin + entry.begin + offset, out);
}

}  // namespace fathom::trainer
