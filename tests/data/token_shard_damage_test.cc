#include <hdf5.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "data/hdf5_file.h"
#include "data/token_shard.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

void overwrite(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// All that a reader of the shard gets to see.
std::string content_of(const std::filesystem::path& path) {
  const TokenShard shard(path);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.num_tokens()));
  shard.read_tokens(0, tokens);
  std::string all = concat(shard.vocabulary().vocab_size, " ", shard.vocabulary().tokenizer_hash,
                           " ", shard.vocabulary().special_tokens.eos, " ",
                           shard.vocabulary().special_tokens.fim_end, " ", shard.num_bytes());
  for (const std::int32_t token : tokens) {
    all += concat(" ", token);
  }
  for (const std::int64_t offset : shard.read_document_offsets()) {
    all += concat(" ", offset);
  }
  for (const std::int64_t bytes : shard.read_document_bytes()) {
    all += concat(" ", bytes);
  }
  for (const std::int32_t bytes : shard.vocabulary().text_bytes_per_token) {
    all += concat(" ", bytes);
  }
  return all;
}

TEST_CASE("A flipped bit anywhere in a shard is refused or changes nothing") {
  const test::TemporaryFolder folder;
  const auto path = test::write_shard(folder.path() / "a.h5", test::made_up_documents("flip", 20));
  const std::string good = read_file(path);
  const std::string want = content_of(path);
  int num_refused = 0;
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto write_byte = [&](std::size_t place, char byte) {
    file.seekp(static_cast<std::streamoff>(place));
    file.put(byte);
    file.flush();
  };
  for (std::size_t place = 0; place < good.size(); place += 1 + place % 5) {
    write_byte(place, static_cast<char>(good[place] ^ (1 << place % 8)));
    std::string found = want;
    try {
      found = content_of(path);
    } catch (const Error& error) {
      CHECK(error.message().find("a.h5") != std::string::npos);
      ++num_refused;
    }
    INFO("byte " << place << " of " << good.size());
    CHECK(found == want);
    write_byte(place, good[place]);
  }
  CHECK(num_refused > 300);
}

TEST_CASE("A truncated shard is refused by name") {
  const test::TemporaryFolder folder;
  const auto path = test::write_shard(folder.path() / "a.h5", test::made_up_documents("cut", 200));
  const std::string good = read_file(path);
  for (const std::size_t size :
       {good.size() - 1, good.size() / 2, std::size_t{100}, std::size_t{1}, std::size_t{0}}) {
    overwrite(path, good.substr(0, size));
    try {
      content_of(path);
      FAIL("truncated to " << size);
    } catch (const IoError& error) {
      CHECK(error.message().find("a.h5") != std::string::npos);
    }
  }
}

TEST_CASE("A shard cut short while it is open is an error, not a crash") {
  const test::TemporaryFolder folder;
  const auto path =
      test::write_shard(folder.path() / "a.h5", test::made_up_documents("cut", 30'000));
  const TokenShard shard(path);
  std::filesystem::resize_file(path, 100'000);
  std::vector<std::int32_t> tokens(10);
  CHECK_THROWS_AS(shard.read_tokens(shard.num_tokens() - 10, tokens), IoError);
}

TEST_CASE("Damage to tokens names the tokens, and the other blocks stay readable") {
  const test::TemporaryFolder folder;
  const auto path =
      test::write_shard(folder.path() / "a.h5", test::made_up_documents("flip", 30'000));
  std::string bytes = read_file(path);
  const Hdf5Reader::Dataset tokens = Hdf5Reader(path).dataset("tokens");
  bytes[static_cast<std::size_t>(tokens.file_offset + 2 * 70'000)] ^= 4;
  overwrite(path, bytes);
  const TokenShard shard(path);
  std::vector<std::int32_t> part(10);
  CHECK_NOTHROW(shard.read_tokens(69'000, part));
  CHECK_NOTHROW(shard.read_tokens(73'728, part));
  CHECK_THROWS_AS(shard.verify(), ConfigError);
  try {
    shard.read_tokens(69'630, part);
    FAIL("a damaged block was read");
  } catch (const ConfigError& error) {
    CHECK(error.message().find("a.h5") != std::string::npos);
    CHECK(error.message().find("tokens 69632 to 73727") != std::string::npos);
  }
}

TEST_CASE("Files that are no token shards are refused") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "a.h5";
  overwrite(path, "{\"text\": \"not HDF5\"}");
  CHECK_THROWS_AS(TokenShard(path), IoError);
  CHECK_THROWS_AS(TokenShard(folder.path() / "none.h5"), IoError);
  CHECK_THROWS_AS(TokenShard(folder.path()), IoError);
  Hdf5ImageWriter other;
  other.add_attribute("format", std::string("something else"));
  overwrite(path, other.finish());
  CHECK_THROWS_AS(TokenShard(path), ConfigError);
  Hdf5ImageWriter newer;
  newer.add_attribute("format", std::string("fathom token shard"));
  newer.add_attribute("format_version", 2);
  overwrite(path, newer.finish());
  CHECK_THROWS_AS(TokenShard(path), ConfigError);
}

// A shard put together by hand, its checksums right, whatever its numbers say.
struct Crafted {
  std::int64_t vocab_size = 4;
  std::int64_t num_tokens = 3;
  std::int64_t num_documents = 2;
  std::int64_t num_bytes = 5;
  std::int64_t block_tokens = 2;
  std::int64_t eos = 3;
  std::vector<std::uint16_t> tokens = {0, 1, 2};
  std::vector<std::int64_t> offsets = {0, 2, 3};
  std::vector<std::int64_t> bytes = {3, 2};
  std::vector<std::int32_t> token_bytes = {1, 2, 2, 0};
};

template <class Element>
void add_checked(Hdf5ImageWriter& file, const std::string& name, ElementType type,
                 const std::vector<Element>& table) {
  const auto table_bytes = std::as_bytes(std::span(table));
  file.add_attribute(name + "_checksum", static_cast<std::int64_t>(checksum(table_bytes)));
  file.add_dataset(name, type, table_bytes);
}

std::filesystem::path write_crafted(const std::filesystem::path& path, const Crafted& shard) {
  Hdf5ImageWriter file;
  file.add_attribute("format", std::string("fathom token shard"));
  file.add_attribute("format_version", 1);
  file.add_attribute("vocab_size", shard.vocab_size);
  file.add_attribute("tokenizer_hash", std::string("0123456789abcdef"));
  file.add_attribute("num_tokens", shard.num_tokens);
  file.add_attribute("num_documents", shard.num_documents);
  file.add_attribute("num_bytes", shard.num_bytes);
  file.add_attribute("checksum_block_tokens", shard.block_tokens);
  for (const char* name : {"bos", "pad", "fim_begin", "fim_hole", "fim_end"}) {
    file.add_attribute(concat(name, "_token"), -1);
  }
  file.add_attribute("eos_token", shard.eos);
  std::vector<std::uint64_t> checksums;
  const auto step = static_cast<std::size_t>(std::clamp<std::int64_t>(shard.block_tokens, 1, 100));
  for (std::size_t begin = 0; begin < shard.tokens.size(); begin += step) {
    checksums.push_back(checksum(std::as_bytes(
        std::span(shard.tokens).subspan(begin, std::min(step, shard.tokens.size() - begin)))));
  }
  file.add_dataset("tokens", ElementType::kUint16, std::as_bytes(std::span(shard.tokens)));
  add_checked(file, "token_checksums", ElementType::kUint64, checksums);
  add_checked(file, "document_offsets", ElementType::kInt64, shard.offsets);
  add_checked(file, "document_bytes", ElementType::kInt64, shard.bytes);
  add_checked(file, "text_bytes_per_token", ElementType::kInt32, shard.token_bytes);
  overwrite(path, file.finish());
  return path;
}

TEST_CASE("Numbers of a shard that contradict each other are refused, checksums or not") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "a.h5";
  const auto refuse = [&](const Crafted& shard, const std::string& want) {
    try {
      TokenShard(write_crafted(path, shard)).verify();
      FAIL("accepted; want a refusal for " << want);
    } catch (const Error& error) {
      INFO(error.message());
      CHECK(error.message().find("a.h5") != std::string::npos);
      CHECK(error.message().find(want) != std::string::npos);
    }
  };
  CHECK_NOTHROW(TokenShard(write_crafted(path, {})).verify());
  refuse({.vocab_size = 0}, "vocab_size 0");
  refuse({.vocab_size = std::int64_t{1} << 40}, "vocab_size");
  refuse({.vocab_size = 5}, "text_bytes_per_token");
  refuse({.num_tokens = -1}, "num_tokens -1");
  refuse({.num_tokens = 4}, "tokens");
  refuse({.num_tokens = std::int64_t{1} << 60}, "tokens");
  refuse({.num_documents = 3}, "document_offsets");
  refuse({.num_documents = INT64_MAX}, "num_documents 9223372036854775807");
  refuse({.num_bytes = 6}, "6");
  refuse({.block_tokens = 0}, "checksum_block_tokens 0");
  refuse({.block_tokens = 1 << 30}, "checksum_block_tokens");
  refuse({.eos = 4}, "eos_token is 4");
  refuse({.eos = -2}, "eos_token is -2");
  refuse({.tokens = {0, 4, 2}}, "token 1 (document 0) has the id 4");
  refuse({.tokens = {0, 1, 65535}}, "token 2 (document 1) has the id 65535");
  refuse({.offsets = {0, 4, 3}}, "document 1");
  refuse({.offsets = {1, 2, 3}}, "from token 1");
  refuse({.offsets = {0, 2, 2}}, "to 2");
  refuse({.bytes = {-1, 6}}, "document 0");
  refuse({.bytes = {INT64_MAX, INT64_MIN + 5}}, "document 0");
  refuse({.token_bytes = {1, 2, -2, 0}}, "less than 0");
}

// An HDF5 file whose dataset "d" is made by `make`.
void write_hostile(const std::filesystem::path& path, const std::function<void(hid_t)>& make) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  make(file);
  H5Fclose(file);
}

void write_good(hid_t file, const char* name) {
  const hsize_t size = 4;
  const std::int64_t values[4] = {1, 2, 3, 4};
  const hid_t space = H5Screate_simple(1, &size, nullptr);
  const hid_t dataset =
      H5Dcreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(dataset, H5T_STD_I64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  H5Dclose(dataset);
  H5Sclose(space);
}

TEST_CASE("Datasets that are stored elsewhere, filtered or larger than the file are refused") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "hostile.h5";
  const hsize_t size = 4;
  const auto make = [&](hid_t file, hid_t creation, hsize_t count) {
    const hid_t space = H5Screate_simple(1, &count, nullptr);
    H5Dclose(H5Dcreate2(file, "d", H5T_STD_I64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
  };
  SECTION("external storage") {
    write_hostile(path, [&](hid_t file) {
      const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
      H5Pset_external(creation, "/etc/passwd", 0, 32);
      make(file, creation, size);
      H5Pclose(creation);
    });
  }
  SECTION("a filter") {
    write_hostile(path, [&](hid_t file) {
      const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
      H5Pset_chunk(creation, 1, &size);
      H5Pset_fletcher32(creation);
      make(file, creation, size);
      H5Pclose(creation);
    });
  }
  SECTION("a soft link") {
    write_hostile(path, [&](hid_t file) {
      write_good(file, "good");
      H5Lcreate_soft("/good", file, "d", H5P_DEFAULT, H5P_DEFAULT);
    });
    CHECK(Hdf5Reader(path).dataset("good").num_elements == 4);
  }
  SECTION("an external link") {
    const std::string other = (folder.path() / "other.h5").string();
    write_hostile(other, [&](hid_t file) { write_good(file, "d"); });
    write_hostile(path, [&](hid_t file) {
      H5Lcreate_external(other.c_str(), "/d", file, "d", H5P_DEFAULT, H5P_DEFAULT);
    });
  }
  SECTION("a claim of more than the file holds") {
    write_hostile(path, [&](hid_t file) { make(file, H5P_DEFAULT, hsize_t{1} << 60); });
  }
  SECTION("a group") {
    write_hostile(path, [&](hid_t file) {
      H5Gclose(H5Gcreate2(file, "d", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    });
  }
  const Hdf5Reader reader(path);
  CHECK_THROWS_AS(reader.dataset("d"), IoError);
  CHECK_THROWS_AS(reader.dataset("e"), IoError);
}

}  // namespace
}  // namespace fathom::data
