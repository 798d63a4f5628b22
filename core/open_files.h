#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace fathom {

// How many files this process may have open.
std::int64_t open_file_limit() noexcept;
// Raises that to what the system allows without a privilege, up to 65,536: shells and launchers
// often leave it at 1,024. Once, as the program starts.
void raise_open_file_limit() noexcept;

// Files that are opened when they are wanted. The `capacity` wanted last stay open; one that is
// still held by a caller closes when that lets it go. All functions may be called by several
// threads.
template <class File>
class OpenFiles {
 public:
  explicit OpenFiles(std::size_t capacity) : capacity_(capacity) {}

  // The file at `path`: open already, or made by open() -> File. Throws what that throws.
  template <class Open>
  std::shared_ptr<const File> get(const std::filesystem::path& path, const Open& open) {
    const std::lock_guard lock(mutex_);
    if (const auto known = places_.find(path.native()); known != places_.end()) {
      files_.splice(files_.begin(), files_, known->second);
      return known->second->second;
    }
    if (files_.size() >= capacity_ && !files_.empty()) {
      places_.erase(files_.back().first);
      files_.pop_back();
    }
    files_.emplace_front(path.native(), std::make_shared<const File>(open()));
    places_.emplace(path.native(), files_.begin());
    return files_.front().second;
  }

 private:
  using Files = std::list<std::pair<std::string, std::shared_ptr<const File>>>;

  std::size_t capacity_;
  std::mutex mutex_;
  Files files_;  // wanted last first
  std::unordered_map<std::string, typename Files::iterator> places_;
};

}  // namespace fathom
