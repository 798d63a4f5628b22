#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/text_source.h"
#include "data/tokenizer.h"

namespace fathom::data {

struct TokenizeOptions {
  std::vector<std::filesystem::path> files;
  std::filesystem::path output_prefix =
      {};  // PREFIX-00000-of-00004.h5, ...; its folder is made if need be
  TextOptions text;
  std::int64_t chunk_bytes = std::int64_t{32} << 20;  // of text a shard
  int rank = 0;                                       // takes chunks rank, rank + world_size, ...
  int world_size = 1;
};

// What this rank has done so far.
struct TokenizeProgress {
  std::int64_t num_shards = 0;  // of this rank, to be made in all
  std::int64_t finished_shards = 0;
  std::int64_t num_documents = 0;
  std::int64_t num_tokens = 0;
  std::int64_t num_bytes = 0;  // of documents
};

// Text files in, token shards out: one shard for each chunk of text, so that the shards are the
// same, bit for bit, however many ranks share the work, and no rank has to know of another. Texts
// of special tokens in the documents are plain text. `report` is called after every shard. Throws
// ConfigError and IoError as text_source.h and token_shard.h say, and ConfigError when shards of
// the same prefix but another count are there already.
TokenizeProgress write_token_shards(const Tokenizer& tokenizer, const TokenizeOptions& options,
                                    const std::function<void(const TokenizeProgress&)>& report);

}  // namespace fathom::data
