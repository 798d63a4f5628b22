#include "data/packing.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <vector>

#include "core/error.h"
#include "data/hdf5_file.h"
#include "tests/data/made_up_shards.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

using Documents = std::vector<std::vector<std::int32_t>>;

std::vector<std::int32_t> whole(const PackedEpoch& epoch) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(epoch.num_tokens()));
  std::vector<PackedEpoch::Part> parts;
  epoch.read(0, tokens, parts);
  return tokens;
}

// The stream cut behind each eos (91).
Documents documents_in(const std::vector<std::int32_t>& stream) {
  Documents documents(1);
  for (const std::int32_t token : stream) {
    if (token == 91) {
      documents.emplace_back();
    } else {
      documents.back().push_back(token);
    }
  }
  CHECK(documents.back().empty());
  documents.pop_back();
  return documents;
}

TEST_CASE("Stored order packs documents with eos between and bos before") {
  const test::TemporaryFolder folder;
  test::write_shard(folder.path() / "a.h5", {{1, 2}, {}, {3}});
  test::write_shard(folder.path() / "b.h5", {{4, 5, 6}});
  const DocumentSet set({folder.path()});
  const PackedEpoch plain(set, {.order = DocumentOrder::kAsStored}, {});
  CHECK(whole(plain) == std::vector<std::int32_t>{1, 2, 91, 91, 3, 91, 4, 5, 6, 91});
  const PackedEpoch with_bos(set, {.order = DocumentOrder::kAsStored, .start = DocumentStart::kBos},
                             {});
  CHECK(whole(with_bos) ==
        std::vector<std::int32_t>{90, 1, 2, 91, 90, 91, 90, 3, 91, 90, 4, 5, 6, 91});
}

TEST_CASE("A shuffled epoch holds every document once, in another order each epoch") {
  const test::TemporaryFolder folder;
  Documents documents = test::made_up_documents("pack", 300);
  const DocumentSet set({test::write_shard(folder.path() / "a.h5", documents)});
  const PackedEpoch first(set, {}, {.seed = 1, .source = "s", .epoch = 0});
  const PackedEpoch again(set, {}, {.seed = 1, .source = "s", .epoch = 0});
  CHECK(whole(first) == whole(again));
  Documents seen = documents_in(whole(first));
  CHECK(seen != documents);
  std::sort(seen.begin(), seen.end());
  std::sort(documents.begin(), documents.end());
  CHECK(seen == documents);
  CHECK(whole(first) != whole(PackedEpoch(set, {}, {.seed = 1, .source = "s", .epoch = 1})));
  CHECK(whole(first) != whole(PackedEpoch(set, {}, {.seed = 2, .source = "s", .epoch = 0})));
  CHECK(whole(first) != whole(PackedEpoch(set, {}, {.seed = 1, .source = "t", .epoch = 0})));
}

TEST_CASE("Any part of the stream is the same part of the whole") {
  const test::TemporaryFolder folder;
  const DocumentSet set(
      {test::write_shard(folder.path() / "a.h5", test::made_up_documents("pack", 200))});
  const PackedEpoch epoch(set, {.start = DocumentStart::kBos, .fim_rate = 0.5}, {.seed = 3});
  const std::vector<std::int32_t> all = whole(epoch);
  CHECK(epoch.num_tokens() ==
        PackedEpoch::num_tokens(set, {.start = DocumentStart::kBos, .fim_rate = 0.5}));
  for (std::int64_t begin = 0; begin + 17 <= epoch.num_tokens(); begin += 3) {
    std::vector<std::int32_t> part(17);
    std::vector<PackedEpoch::Part> parts;
    epoch.read(begin, part, parts);
    CHECK(std::equal(part.begin(), part.end(), all.begin() + begin));
    std::int64_t size = 0;
    for (const PackedEpoch::Part& one : parts) {
      size += one.size;
    }
    CHECK(size == 17);
  }
}

TEST_CASE("FIM moves the middle of exactly the configured share of documents to the end") {
  const test::TemporaryFolder folder;
  const Documents documents = test::made_up_documents("fim", 500);
  const DocumentSet set({test::write_shard(folder.path() / "a.h5", documents)});
  const PackedEpoch epoch(set, {.order = DocumentOrder::kAsStored, .fim_rate = 0.3},
                          {.seed = 5, .source = "s", .epoch = 2});
  const Documents seen = documents_in(whole(epoch));
  REQUIRE(seen.size() == documents.size());
  int num_fim = 0;
  double cuts = 0.0;
  double want_cuts = 0.0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (seen[i].empty() || seen[i][0] != 93) {
      CHECK(seen[i] == documents[i]);
      continue;
    }
    ++num_fim;
    // <fim_begin = 93> prefix <fim_hole = 94> suffix <fim_end = 95> middle, put back in order.
    const auto hole = std::find(seen[i].begin(), seen[i].end(), 94);
    const auto end = std::find(hole, seen[i].end(), 95);
    REQUIRE(end != seen[i].end());
    std::vector<std::int32_t> restored(seen[i].begin() + 1, hole);
    cuts += static_cast<double>(restored.size());
    want_cuts += static_cast<double>(documents[i].size()) / 3.0;
    restored.insert(restored.end(), end + 1, seen[i].end());
    restored.insert(restored.end(), hole + 1, end);
    CHECK(restored == documents[i]);
  }
  CHECK(num_fim == 150);
  // The smaller of two uniform cuts lies at a third of the length.
  CHECK(cuts == Approx(want_cuts).epsilon(0.2));
  const PackedEpoch next(set, {.order = DocumentOrder::kAsStored, .fim_rate = 0.3},
                         {.seed = 5, .source = "s", .epoch = 3});
  CHECK(whole(next) != whole(epoch));
  CHECK(next.num_tokens() == epoch.num_tokens());
}

// The stream put together in memory, document by document in the order of the epoch: what the
// epoch's tables and look-ups must come to.
std::vector<std::int32_t> packed_in_memory(const Documents& documents,
                                           const PackingOptions& options, const PackingKey& key) {
  const auto random = [&](const std::string& what) {
    return RandomSource(key.seed, concat("data/", what, "/", key.source, "/epoch/", key.epoch));
  };
  const auto count = static_cast<std::int64_t>(documents.size());
  const IndexPermutation order(count, random("document_order"));
  const IndexPermutation fim_order(count, random("fim_documents"));
  const auto num_fim = std::llround(options.fim_rate * static_cast<double>(count));
  std::vector<std::int32_t> stream;
  for (std::int64_t position = 0; position < count; ++position) {
    const std::int64_t number =
        options.order == DocumentOrder::kShuffled ? order(position) : position;
    const std::vector<std::int32_t>& document = documents[static_cast<std::size_t>(number)];
    if (options.start == DocumentStart::kBos) {
      stream.push_back(90);
    }
    if (fim_order(position) < num_fim) {
      std::vector<TokenPiece> pieces;
      append_fim_pieces(std::ssize(document), random("fim_cuts"),
                        static_cast<std::uint64_t>(number), {90, 91, 92, 93, 94, 95}, pieces);
      for (const TokenPiece& piece : pieces) {
        if (piece.added_token >= 0) {
          stream.push_back(piece.added_token);
        } else {
          const auto begin = document.begin() + piece.begin;
          stream.insert(stream.end(), begin, begin + piece.size);
        }
      }
    } else {
      stream.insert(stream.end(), document.begin(), document.end());
    }
    stream.push_back(91);
  }
  return stream;
}

TEST_CASE("An epoch is the stream that its documents make one after another, over all shards") {
  const test::TemporaryFolder folder;
  Documents documents;
  for (std::int64_t shard = 0; shard < 5; ++shard) {
    // One of them empty, one of a single document.
    const std::size_t sizes[] = {900, 0, 1, 700, 123};
    const Documents part = test::made_up_documents(concat("part", shard), sizes[shard]);
    test::write_shard(shard_path(folder.path() / "t", shard, 5), part);
    documents.insert(documents.end(), part.begin(), part.end());
  }
  const DocumentSet set({folder.path()});
  for (const DocumentOrder order : {DocumentOrder::kShuffled, DocumentOrder::kAsStored}) {
    for (const DocumentStart start : {DocumentStart::kPlain, DocumentStart::kBos}) {
      for (const double fim_rate : {0.0, 0.3, 1.0}) {
        const PackingOptions options{.order = order, .start = start, .fim_rate = fim_rate};
        const PackingKey key{.seed = 8, .source = "s", .epoch = 2};
        const std::vector<std::int32_t> want = packed_in_memory(documents, options, key);
        const PackedEpoch epoch(set, options, key);
        CHECK(whole(epoch) == want);
        for (std::int64_t begin = 0; begin + 40 <= epoch.num_tokens(); begin += 397) {
          std::vector<std::int32_t> part(40);
          std::vector<PackedEpoch::Part> parts;
          epoch.read(begin, part, parts);
          CHECK(std::equal(part.begin(), part.end(), want.begin() + begin));
        }
      }
    }
  }
}

TEST_CASE("An epoch of so many documents that threads share the work is the same stream") {
  const test::TemporaryFolder folder;
  Documents documents;
  for (std::int64_t shard = 0; shard < 7; ++shard) {
    const Documents part = test::made_up_documents(concat("part", shard), 30'000);
    test::write_shard(shard_path(folder.path() / "t", shard, 7), part);
    documents.insert(documents.end(), part.begin(), part.end());
  }
  const DocumentSet set({folder.path()});
  const PackingKey key{.seed = 8, .source = "s", .epoch = 0};
  const std::vector<std::int32_t> want = packed_in_memory(documents, {.fim_rate = 0.1}, key);
  const PackedEpoch epoch(set, {.fim_rate = 0.1}, key);
  REQUIRE(epoch.num_tokens() == std::ssize(want));
  for (std::int64_t begin = 0; begin + 20 <= epoch.num_tokens(); begin += 7'919) {
    std::vector<std::int32_t> part(20);
    std::vector<PackedEpoch::Part> parts;
    epoch.read(begin, part, parts);
    CHECK(std::equal(part.begin(), part.end(), want.begin() + begin));
  }
}

TEST_CASE("A damaged table of documents is found by the epoch's pass, whichever thread meets it") {
  const test::TemporaryFolder folder;
  for (std::int64_t shard = 0; shard < 4; ++shard) {
    test::write_shard(shard_path(folder.path() / "t", shard, 4),
                      test::made_up_documents(concat("part", shard), 40'000));
  }
  const auto path = shard_path(folder.path() / "t", 2, 4);
  const Hdf5Reader::Dataset table = Hdf5Reader(path).dataset("document_offsets");
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(table.file_offset + 8 * 1000);
  file.put('\x7f');
  file.close();
  const DocumentSet set({folder.path()});
  try {
    const PackedEpoch epoch(set, {}, {});
    FAIL("a damaged table was used");
  } catch (const ConfigError& error) {
    CHECK(error.message().find(path.string()) != std::string::npos);
    CHECK(error.message().find("document_offsets") != std::string::npos);
  }
}

TEST_CASE("Packing refuses a vocabulary without the special tokens that it needs") {
  const test::TemporaryFolder folder;
  const auto open = [&](SpecialTokenIds special, const PackingOptions& options) {
    TokenShardContent content = test::shard_of({{1}});
    content.vocabulary.special_tokens = special;
    write_token_shard(folder.path() / "a.h5", content);
    const DocumentSet set({folder.path() / "a.h5"});
    const PackedEpoch epoch(set, options, {});
  };
  CHECK_NOTHROW(open({.eos = 91}, {}));
  CHECK_THROWS_AS(open({.bos = 90}, {}), ConfigError);
  CHECK_THROWS_AS(open({.eos = 91}, {.start = DocumentStart::kBos}), ConfigError);
  CHECK_THROWS_AS(open({.eos = 91}, {.fim_rate = 0.1}), ConfigError);
  CHECK_THROWS_AS(open({90, 91, 92, 93, 94, 95}, {.fim_rate = 1.5}), ConfigError);
  test::write_shard(folder.path() / "empty.h5", {{}, {}});
  CHECK_THROWS_AS(DocumentSet({folder.path() / "empty.h5"}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
