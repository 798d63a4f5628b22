#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/open_files.h"
#include "trainer/checkpoint/shard_file.h"
#include "trainer/hf/safetensors.h"

namespace fathom::trainer {

inline constexpr std::string_view kSafetensorsName = "model.safetensors";
inline constexpr std::string_view kSafetensorsIndexName = "model.safetensors.index.json";

// The weights of a model as Hugging Face folders hold them: model.safetensors, or the files that
// model.safetensors.index.json names. Each file's header is read and checked, and that file and
// index agree on every tensor, before anything else is; elements are read where they are wanted.
class SafetensorsFolder {
 public:
  // Throws ConfigError naming file and tensor, IoError. Symbolic links are not followed.
  explicit SafetensorsFolder(std::filesystem::path folder);

  const std::filesystem::path& path() const noexcept { return folder_; }
  // Null: there is no such tensor. Valid as long as the folder.
  const SafetensorsEntry* find(const std::string& name) const;
  std::size_t num_tensors() const noexcept { return places_.size(); }
  std::int64_t size_bytes() const noexcept { return size_bytes_; }  // of all tensors
  // By name, ascending.
  std::vector<std::string> names() const;
  // The file that holds a tensor, for messages.
  std::filesystem::path path_of(const std::string& name) const;

  // Bytes [offset, offset + out.size()) of a tensor's elements.
  void read(const SafetensorsEntry& entry, std::int64_t offset, std::span<std::byte> out);

 private:
  struct File {
    std::filesystem::path path;
    std::int64_t data_begin = 0;
    std::vector<SafetensorsEntry> entries;
  };
  struct Place {
    std::size_t file = 0;
    std::size_t entry = 0;
  };
  static File open_file(const std::filesystem::path& path);
  void check_index(const std::map<std::string, std::string>& index) const;

  std::filesystem::path folder_;
  std::vector<File> files_;
  std::map<std::string, Place, std::less<>> places_;
  std::int64_t size_bytes_ = 0;
  OpenFiles<ShardFile> open_;
};

}  // namespace fathom::trainer
