#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/text_source.h"
#include "data/tokenizer.h"

namespace fathom::data {

struct TokenizeOptions {
  std::vector<std::filesystem::path> files;
  // PREFIX-00000-of-00004.h5, ...; its folder is made if need be.
  std::filesystem::path output_prefix = {};
  TextOptions text;
  std::int64_t shard_bytes = 0;  // of text; 0: default_shard_bytes()
  int rank = 0;                  // takes shards rank, rank + world_size, ...
  int world_size = 1;
};

// A 256th of the files, from 32 MiB to 1 GiB: many shards for many ranks to share, and few for
// training to open.
std::int64_t default_shard_bytes(const std::vector<std::filesystem::path>& files);

// What goes into each shard: parts of files of about shard_bytes together, in order. Small files
// share a shard. Throws as cut_into_chunks() does.
std::vector<std::vector<TextChunk>> plan_shards(const TokenizeOptions& options);

// What this rank has done so far.
struct TokenizeProgress {
  std::int64_t num_shards = 0;  // of this rank, to be made in all
  std::int64_t finished_shards = 0;
  std::int64_t num_documents = 0;
  std::int64_t num_tokens = 0;
  std::int64_t num_bytes = 0;  // of documents
};

// Throws ConfigError, naming `origin` and the texts that were looked for, when the tokenizer has no
// end of sentence: no document of its shards could be told from the next.
void require_end_of_sentence(const Tokenizer& tokenizer, const std::string& origin);

// Text files in, token shards out. What a shard holds depends on the files alone, so that shards
// are the same, bit for bit, however many ranks share the work, and no rank has to know of another.
// Texts of special tokens in the documents are plain text. `report` is called after every shard.
// Throws ConfigError and IoError as text_source.h and token_shard.h say, and ConfigError when
// shards of the same prefix but another count are there already.
TokenizeProgress write_token_shards(const Tokenizer& tokenizer, const TokenizeOptions& options,
                                    const std::function<void(const TokenizeProgress&)>& report);

}  // namespace fathom::data
