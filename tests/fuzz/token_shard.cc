// A shard of tokens. An input that begins with 0 is, behind it, the file. Of any other the bytes
// choose what a sound file says, so that the checks behind HDF5's own checksums are fuzzed as well.
#include "data/token_shard.h"

#include <unistd.h>

#include <bit>
#include <filesystem>
#include <fstream>

#include "data/checksum.h"
#include "data/hdf5_file.h"
#include "data/token_shard_format.h"
#include "tests/fuzz/fuzz_target.h"

using namespace fathom;

namespace {

// A file that lasts for one input. In memory where the machine has such a folder; HDF5 wants a
// path.
class FuzzedFile {
 public:
  explicit FuzzedFile(const std::string& content) {
    const std::filesystem::path memory = "/dev/shm";
    path_ = (std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path()) /
            concat("fathom-fuzz-", ::getpid(), ".h5");
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~FuzzedFile() { std::filesystem::remove(path_); }
  FuzzedFile(const FuzzedFile&) = delete;
  FuzzedFile& operator=(const FuzzedFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// What to change in a sound file: a list of places, which are numbered in the order in which they
// are asked for, with what is to stand there.
class Changes {
 public:
  explicit Changes(std::string_view bytes) {
    while (bytes.size() >= sizeof(Change)) {
      Change& change = changes_.emplace_back();
      bytes.copy(reinterpret_cast<char*>(&change), sizeof(Change));
      bytes.remove_prefix(sizeof(Change));
    }
  }

  std::int64_t number(std::int64_t right) {
    for (const Change& change : of_next_place()) {
      right = change.value_for(right);
    }
    return right;
  }
  template <class Element>
  std::vector<Element> table(std::vector<Element> right) {
    right.resize(static_cast<std::uint64_t>(number(std::ssize(right))) % 4096);
    for (const Change& change : of_next_place()) {
      if (!right.empty()) {
        Element& element = right[change.index % right.size()];
        element = static_cast<Element>(change.value_for(static_cast<std::int64_t>(element)));
      }
    }
    return right;
  }
  data::ElementType type(data::ElementType right) {
    const std::int64_t chosen = number(static_cast<std::int64_t>(right));
    return chosen >= 0 && chosen <= 4 ? static_cast<data::ElementType>(chosen) : right;
  }

 private:
  static constexpr int kNumPlaces = 32;  // at least as many as are asked for

  struct Change {
    std::uint8_t place;
    std::uint8_t index;  // of an element
    std::uint8_t is_difference;
    std::int8_t difference;
    std::int32_t low, high;

    std::int64_t value_for(std::int64_t right) const {
      if (is_difference % 2 == 1) {
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(right) + difference);
      }
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(high) << 32 |
                                       static_cast<std::uint32_t>(low));
    }
  };

  std::vector<Change> of_next_place() {
    std::vector<Change> found;
    for (const Change& change : changes_) {
      if (change.place % kNumPlaces == place_) {
        found.push_back(change);
      }
    }
    ++place_;
    return found;
  }

  std::vector<Change> changes_;
  int place_ = 0;
};

template <class Element>
void add_table(const std::string& name, data::ElementType type, std::vector<Element> right,
               Changes& changes, data::Hdf5ImageWriter& file) {
  const std::vector<Element> table = changes.table(std::move(right));
  const auto bytes = std::as_bytes(std::span(table));
  file.add_attribute(name + "_checksum",
                     changes.number(std::bit_cast<std::int64_t>(data::checksum(bytes))));
  file.add_dataset(name, changes.type(type), bytes);
}

// Two documents, of three tokens and of one; vocabulary of 7.
std::string made_up_shard(Changes changes) {
  data::Hdf5ImageWriter file;
  file.add_attribute("format", std::string(data::kTokenShardFormat));
  file.add_attribute("tokenizer_hash", "0123456789abcdef");
  const std::pair<const char*, std::int64_t> numbers[] = {
      {"format_version", 1},   {"vocab_size", 7},      {"num_tokens", 4},
      {"num_documents", 2},    {"num_bytes", 9},       {"checksum_block_tokens", 2},
      {"bos_token", 5},        {"eos_token", 6},       {"pad_token", -1},
      {"fim_begin_token", -1}, {"fim_hole_token", -1}, {"fim_end_token", -1}};
  for (const auto& [name, right] : numbers) {
    file.add_attribute(name, changes.number(right));
  }
  const std::vector<std::uint16_t> tokens = changes.table<std::uint16_t>({0, 4, 2, 1});
  std::vector<std::uint64_t> checksums;
  for (std::size_t begin = 0; begin < tokens.size(); begin += 2) {
    const std::size_t count = std::min<std::size_t>(2, tokens.size() - begin);
    checksums.push_back(data::checksum(std::as_bytes(std::span(tokens).subspan(begin, count))));
  }
  file.add_dataset("tokens", changes.type(data::ElementType::kUint16),
                   std::as_bytes(std::span(tokens)));
  add_table("token_checksums", data::ElementType::kUint64, checksums, changes, file);
  add_table<std::int32_t>("text_bytes_per_token", data::ElementType::kInt32, {1, 2, 3, 1, 2, 0, 0},
                          changes, file);
  add_table<std::int64_t>("document_offsets", data::ElementType::kInt64, {0, 3, 4}, changes, file);
  add_table<std::int64_t>("document_bytes", data::ElementType::kInt64, {7, 2}, changes, file);
  return file.finish();
}

// Look-ups, which are not held against a checksum.
void look_up_documents(const std::filesystem::path& path) {
  const data::TokenShard shard(path);
  for (std::int64_t i = 0; i < shard.num_documents(); ++i) {
    const data::TokenRange range = shard.document(i);
    test::must(
        range.begin >= 0 && range.size >= 0 && range.size <= shard.num_tokens() - range.begin,
        "a document out of range");
  }
}

void read_all(const std::filesystem::path& path) {
  const data::TokenShard shard(path);
  shard.verify();
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.num_tokens()));
  shard.read_tokens(0, tokens);
  for (const std::int32_t token : tokens) {
    test::must(token >= 0 && token < shard.vocabulary().vocab_size, "a token out of range");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view input = test::as_text(bytes, size);
  const bool is_file = !input.empty() && input[0] == '\0';
  const FuzzedFile file(is_file ? std::string(input.substr(1)) : made_up_shard(Changes(input)));
  test::unless_refused([&] {
    look_up_documents(file.path());
    return true;
  });
  test::unless_refused([&] {
    read_all(file.path());
    return true;
  });
  return 0;
}
