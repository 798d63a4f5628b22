#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "trainer/checkpoint/manifest.h"

namespace fathom::trainer {
namespace {

// Far beyond any model, and small enough that products of two sizes and a width fit in an int64.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;
constexpr std::size_t kMaxKeyLength = 1024;

bool multiply(std::int64_t a, std::int64_t b, std::int64_t& product) {
  return !__builtin_mul_overflow(a, b, &product);
}

class Checker {
 public:
  explicit Checker(const Manifest& manifest) : manifest_(manifest) {}

  void run() const {
    if (manifest_.step < 0) {
      fail("step ", manifest_.step);
    }
    check_integers();
    check_files();
    for (std::size_t i = 0; i < manifest_.tensors.size(); ++i) {
      const StoredTensor& tensor = manifest_.tensors[i];
      if (i > 0 && !(manifest_.tensors[i - 1].key < tensor.key)) {
        fail("tensor ", tensor.key, " is out of order or doubled");
      }
      check_tensor(tensor);
    }
    check_regions();
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Damage(concat(kManifestName, ": ", parts...));
  }

  void check_integers() const {
    std::set<std::string> keys;
    for (const auto& [key, value] : manifest_.integers) {
      if (!is_key(key) || !keys.insert(key).second) {
        fail("integer '", key.substr(0, kMaxKeyLength), "' is doubled or no valid key");
      }
    }
  }

  void check_files() const {
    std::set<std::string> names;
    for (const StoredFile& file : manifest_.files) {
      if (!is_shard_name(file.name) || !names.insert(file.name).second) {
        fail("file '", file.name.substr(0, kMaxKeyLength), "' is doubled or no name of ours");
      }
      if (file.size_bytes < 0) {
        fail("file ", file.name, " of ", file.size_bytes, " bytes");
      }
    }
  }

  void check_tensor(const StoredTensor& tensor) const {
    if (!is_key(tensor.key)) {
      fail("'", tensor.key.substr(0, kMaxKeyLength), "' is no valid key of a tensor");
    }
    std::int64_t numel = size_of(tensor.dtype);
    for (const std::int64_t size : tensor.global_shape.sizes()) {
      if (size < 1 || size > kMaxSize || !multiply(numel, size, numel)) {
        fail("tensor ", tensor.key, " has the impossible shape ", tensor.global_shape);
      }
    }
    for (const StoredSlice& slice : tensor.slices) {
      check_slice(tensor, slice);
    }
    check_cover(tensor);
  }

  void check_slice(const StoredTensor& tensor, const StoredSlice& slice) const {
    const Rectangle& where = slice.where;
    const auto is_possible = [](std::int64_t begin, std::int64_t size) {
      return begin >= 0 && begin <= kMaxSize && size >= 1 && size <= kMaxSize;
    };
    if (!is_possible(where.row_begin, where.num_rows) ||
        !is_possible(where.column_begin, where.num_columns) ||
        intersection(where, whole_of(tensor.global_shape)) != where) {
      // In these numbers: their sums may be beyond an int64.
      fail("tensor ", tensor.key, " ", tensor.global_shape, " has a slice of ", where.num_rows,
           " x ", where.num_columns, " at row ", where.row_begin, ", column ", where.column_begin,
           ", outside of it");
    }
    if (slice.file < 0 || static_cast<std::size_t>(slice.file) >= manifest_.files.size()) {
      fail("tensor ", tensor.key, " is in file number ", slice.file, " of ",
           manifest_.files.size());
    }
    const StoredFile& file = manifest_.files[static_cast<std::size_t>(slice.file)];
    const std::int64_t bytes = where.numel() * size_of(tensor.dtype);
    if (slice.file_offset < 0 || slice.file_offset > file.size_bytes ||
        bytes > file.size_bytes - slice.file_offset) {
      fail("tensor ", tensor.key, ": ", bytes, " bytes at ", slice.file_offset, " of ", file.name,
           ", which has ", file.size_bytes);
    }
  }

  // Inside the tensor, without overlap and with as many elements: each element exactly once.
  void check_cover(const StoredTensor& tensor) const {
    std::vector<Rectangle> slices;
    std::int64_t covered = 0;
    for (const StoredSlice& slice : tensor.slices) {
      slices.push_back(slice.where);
      covered += slice.where.numel();
      if (covered > tensor.global_shape.numel()) {
        break;
      }
    }
    check_overlap(tensor, std::move(slices));
    if (covered != tensor.global_shape.numel()) {
      fail("tensor ", tensor.key, " ", tensor.global_shape, ": its ", tensor.slices.size(),
           " slices hold ", covered, " of ", tensor.global_shape.numel(), " elements");
    }
  }

  // From row to row: the slices that reach into a row share no column, so that a new one can only
  // overlap those beside it.
  void check_overlap(const StoredTensor& tensor, std::vector<Rectangle> slices) const {
    std::sort(slices.begin(), slices.end(),
              [](const Rectangle& a, const Rectangle& b) { return a.row_begin < b.row_begin; });
    std::map<std::int64_t, Rectangle> reaching;         // by their first column
    std::multimap<std::int64_t, std::int64_t> columns;  // the same, by the row that they end before
    const auto refuse_overlap = [&](const Rectangle& a, const Rectangle& b) {
      if (intersection(a, b).numel() > 0) {
        fail("tensor ", tensor.key, ": slices ", to_string(a), " and ", to_string(b), " overlap");
      }
    };
    for (const Rectangle& slice : slices) {
      while (!columns.empty() && columns.begin()->first <= slice.row_begin) {
        reaching.erase(columns.begin()->second);
        columns.erase(columns.begin());
      }
      const auto next = reaching.lower_bound(slice.column_begin);
      if (next != reaching.end()) {
        refuse_overlap(next->second, slice);
      }
      if (next != reaching.begin()) {
        refuse_overlap(std::prev(next)->second, slice);
      }
      reaching.emplace(slice.column_begin, slice);
      columns.emplace(slice.row_end(), slice.column_begin);
    }
  }

  void check_regions() const {
    for (const auto& regions : regions_of(manifest_)) {
      for (std::size_t i = 1; i < regions.size(); ++i) {
        if (regions[i].begin < regions[i - 1].end) {
          fail("tensors ", regions[i - 1].tensor->key, " and ", regions[i].tensor->key,
               " share bytes of ",
               manifest_.files[static_cast<std::size_t>(regions[i].slice->file)].name);
        }
      }
    }
  }

  const Manifest& manifest_;
};

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || c == '+' || c == ':';
}

}  // namespace

Rectangle intersection(const Rectangle& a, const Rectangle& b) noexcept {
  Rectangle both{.row_begin = std::max(a.row_begin, b.row_begin),
                 .column_begin = std::max(a.column_begin, b.column_begin)};
  both.num_rows = std::min(a.row_end(), b.row_end()) - both.row_begin;
  both.num_columns = std::min(a.column_end(), b.column_end()) - both.column_begin;
  return both.num_rows > 0 && both.num_columns > 0 ? both : Rectangle{};
}

Rectangle whole_of(const Shape& global_shape) {
  FATHOM_CHECK(global_shape.rank() == 1 || global_shape.rank() == 2, global_shape);
  return {.row_begin = 0,
          .num_rows = global_shape.rank() == 1 ? 1 : global_shape[0],
          .column_begin = 0,
          .num_columns = global_shape[-1]};
}

std::string to_string(const Rectangle& rectangle) {
  return concat("[", rectangle.row_begin, ":", rectangle.row_end(), ", ", rectangle.column_begin,
                ":", rectangle.column_end(), "]");
}

std::vector<std::vector<FileRegion>> regions_of(const Manifest& manifest) {
  std::vector<std::vector<FileRegion>> regions(manifest.files.size());
  for (const StoredTensor& tensor : manifest.tensors) {
    for (const StoredSlice& slice : tensor.slices) {
      regions.at(static_cast<std::size_t>(slice.file))
          .push_back({.begin = slice.file_offset,
                      .end = slice.file_offset + slice.where.numel() * size_of(tensor.dtype),
                      .tensor = &tensor,
                      .slice = &slice});
    }
  }
  for (auto& of_file : regions) {
    std::sort(of_file.begin(), of_file.end(),
              [](const FileRegion& a, const FileRegion& b) { return a.begin < b.begin; });
  }
  return regions;
}

std::string shard_name(int rank) {
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.h5", rank);
  return name;
}

bool is_shard_name(std::string_view name) {
  constexpr std::string_view kStart = "rank-", kEnd = ".h5";
  if (name.size() < kStart.size() + 5 + kEnd.size() || name.size() > 32 ||
      !name.starts_with(kStart) || !name.ends_with(kEnd)) {
    return false;
  }
  name = name.substr(kStart.size(), name.size() - kStart.size() - kEnd.size());
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyLength) {
    return false;
  }
  for (std::size_t begin = 0; begin <= key.size();) {
    const std::size_t end = std::min(key.find('/', begin), key.size());
    const std::string_view part = key.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." ||
        !std::all_of(part.begin(), part.end(), is_key_character)) {
      return false;
    }
    begin = end + 1;
  }
  return true;
}

void validate(const Manifest& manifest) { Checker(manifest).run(); }

}  // namespace fathom::trainer
