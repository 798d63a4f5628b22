#include <algorithm>
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "data/token_shard.h"

namespace fathom::data {
namespace {

namespace fs = std::filesystem;

constexpr int kNumDigits = 5;

std::string number_of(std::int64_t value) {
  std::ostringstream out;
  out << std::setw(kNumDigits) << std::setfill('0') << value;
  return out.str();
}

struct ShardName {
  std::string prefix;
  std::int64_t index = 0;
  std::int64_t count = 0;
};

std::optional<std::int64_t> digits_value(std::string_view digits) {
  std::int64_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9' || value > 100'000'000) {
      return std::nullopt;
    }
    value = 10 * value + (digit - '0');
  }
  return digits.size() < kNumDigits ? std::nullopt : std::optional(value);
}

// PREFIX-00003-of-00012.h5 taken apart.
std::optional<ShardName> parse_name(const fs::path& path) {
  const std::string stem = path.stem().string();
  const std::size_t of = stem.rfind("-of-");
  const std::size_t dash = of == std::string::npos || of == 0 ? of : stem.rfind('-', of - 1);
  if (of == std::string::npos || dash == std::string::npos || path.extension() != ".h5") {
    return std::nullopt;
  }
  const auto index = digits_value(std::string_view(stem).substr(dash + 1, of - dash - 1));
  const auto count = digits_value(std::string_view(stem).substr(of + 4));
  if (!index || !count) {
    return std::nullopt;
  }
  return ShardName{stem.substr(0, dash), *index, *count};
}

// The *.h5 of a folder whose names pass `is_wanted`, in order.
template <class IsWanted>
std::vector<fs::path> shards_in(const fs::path& folder, IsWanted&& is_wanted) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) {
    throw_io_error("list", folder, error.value());
  }
  for (const fs::directory_entry& entry : entries) {
    if (entry.path().extension() == ".h5" && is_wanted(entry.path())) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Each numbered set of which some shards are in `files`, sorted, must be there once and in full.
void check_complete(const std::vector<fs::path>& files) {
  std::map<std::string, std::int64_t> count_of_prefix;
  for (const fs::path& file : files) {
    const std::optional<ShardName> name = parse_name(file);
    const std::int64_t known =
        name ? count_of_prefix.try_emplace(name->prefix, name->count).first->second : 0;
    if (name && known != name->count) {
      throw ConfigError(concat(file.parent_path().string(),
                               " holds two sets of token shards named ", name->prefix, ", one of ",
                               known, " and one of ", name->count, ": remove the old one"));
    }
  }
  for (const auto& [prefix, count] : count_of_prefix) {
    for (std::int64_t index = 0; index < count; ++index) {
      const fs::path wanted = shard_path(files.front().parent_path() / prefix, index, count);
      if (!std::binary_search(files.begin(), files.end(), wanted)) {
        throw IoError(concat("token shard ", wanted.string(), " is missing: its set has ", count));
      }
    }
  }
}

std::vector<fs::path> files_of(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) {
    return {path};
  }
  const bool is_folder = fs::is_directory(path, error);
  const std::vector<fs::path> files =
      is_folder ? shards_in(path, [](const fs::path&) { return true; }) : shards_of_prefix(path);
  if (files.empty()) {
    throw IoError(concat("no token shards at ", path.string(),
                         is_folder ? ": no *.h5 in this folder"
                                   : ": no such file or folder, and no *-of-*.h5 of this prefix"));
  }
  check_complete(files);
  return files;
}

}  // namespace

std::vector<std::filesystem::path> shards_of_prefix(const std::filesystem::path& prefix) {
  const fs::path folder = prefix.has_parent_path() ? prefix.parent_path() : fs::path(".");
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return {};
  }
  return shards_in(folder, [&](const fs::path& file) {
    const std::optional<ShardName> name = parse_name(file);
    return name && name->prefix == prefix.filename().string();
  });
}

std::filesystem::path shard_path(const std::filesystem::path& prefix, std::int64_t index,
                                 std::int64_t count) {
  return prefix.string() + "-" + number_of(index) + "-of-" + number_of(count) + ".h5";
}

std::vector<TokenShard> open_token_shards(const std::vector<std::filesystem::path>& paths,
                                          const TokenShard* like) {
  std::vector<TokenShard> shards;
  for (const std::filesystem::path& path : paths) {
    for (const std::filesystem::path& file : files_of(path)) {
      shards.emplace_back(file, shards.empty() ? like : &shards.front());
      check_tokenizer_hash(shards.back(), shards.front().vocabulary().tokenizer_hash);
    }
  }
  if (shards.empty()) {
    throw ConfigError("no token shards given");
  }
  return shards;
}

void check_model_vocabulary(const TokenShard& shard, std::int64_t model_vocab_size) {
  if (shard.vocabulary().vocab_size > model_vocab_size) {
    throw ConfigError(concat(shard.path().string(), " was made with a vocabulary of ",
                             shard.vocabulary().vocab_size, " entries, the model has ",
                             model_vocab_size, ": set model.vocab_size to ",
                             shard.vocabulary().vocab_size, " or more"));
  }
}

void check_tokenizer_hash(const TokenShard& shard, const std::string& tokenizer_hash) {
  if (shard.vocabulary().tokenizer_hash != tokenizer_hash) {
    throw ConfigError(concat(shard.path().string(), " was made with the tokenizer of hash ",
                             shard.vocabulary().tokenizer_hash, ", want ", tokenizer_hash,
                             ": tokenize all text with the same tokenizer.json"));
  }
}

}  // namespace fathom::data
