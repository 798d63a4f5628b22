#include "data/tokenize.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "data/token_shard.h"

namespace fathom::data {
namespace {

void check_output(const std::filesystem::path& prefix, std::int64_t num_shards) {
  if (!prefix.has_filename()) {
    throw ConfigError(
        concat("the output \"", prefix.string(),
               "\" is a folder: give the beginning of the names of the shards in it"));
  }
  create_folder_of(prefix);
  for (const std::filesystem::path& shard : shards_of_prefix(prefix)) {
    const std::string ours = shard_path(prefix, 0, num_shards).filename().string();
    const std::string suffix = ours.substr(ours.rfind("-of-"));
    if (!shard.filename().string().ends_with(suffix)) {
      throw ConfigError(concat(shard.string(), " is there already, of another set than the ",
                               num_shards,
                               " shards to be written: remove it or choose another output"));
    }
  }
}

TokenShardContent tokenize_chunks(const std::vector<TextChunk>& chunks, const TextOptions& text,
                                  const Vocabulary& vocabulary, Encoder& encoder) {
  TokenShardContent content;
  content.vocabulary = vocabulary;
  std::string document;
  for (const TextChunk& chunk : chunks) {
    DocumentReader reader(chunk, text);
    while (reader.next(document)) {
      encoder.encode(document, AddedTokens::kAsText, content.tokens);
      content.document_offsets.push_back(static_cast<std::int64_t>(content.tokens.size()));
      content.document_bytes.push_back(static_cast<std::int64_t>(document.size()));
    }
  }
  return content;
}

}  // namespace

std::int64_t default_shard_bytes(const std::vector<std::filesystem::path>& files) {
  constexpr std::int64_t kNumShards = 256;
  constexpr std::int64_t kLeast = std::int64_t{32} << 20;
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  std::int64_t num_bytes = 0;
  for (const std::filesystem::path& file : files) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(file, error);
    num_bytes += error ? 0 : static_cast<std::int64_t>(size);  // what is missing is told later
  }
  return std::clamp(num_bytes / kNumShards, kLeast, kMost);
}

std::vector<std::vector<TextChunk>> plan_shards(const TokenizeOptions& options) {
  const std::int64_t shard_bytes =
      options.shard_bytes > 0 ? options.shard_bytes : default_shard_bytes(options.files);
  std::vector<std::vector<TextChunk>> shards;
  std::int64_t num_bytes = 0;  // of the last shard
  for (const TextChunk& chunk : cut_into_chunks(options.files, shard_bytes, options.text)) {
    const std::int64_t size = chunk.end - chunk.begin;
    if (shards.empty() || size > shard_bytes - num_bytes) {
      shards.emplace_back();
      num_bytes = 0;
    }
    shards.back().push_back(chunk);
    num_bytes += size;
  }
  return shards;
}

void require_end_of_sentence(const Tokenizer& tokenizer, const std::string& origin) {
  if (tokenizer.special_tokens().eos >= 0) {
    return;
  }
  std::string texts;
  for (const std::string& text : SpecialTokenNames{}.eos) {
    texts += concat(texts.empty() ? "" : ", ", text);
  }
  throw ConfigError(concat(origin,
                           ": no added token ends a sentence, which has to stand between "
                           "documents; looked for ",
                           texts));
}

TokenizeProgress write_token_shards(const Tokenizer& tokenizer, const TokenizeOptions& options,
                                    const std::function<void(const TokenizeProgress&)>& report) {
  FATHOM_CHECK(options.rank >= 0 && options.rank < options.world_size, options.rank, " of ",
               options.world_size);
  const std::vector<std::vector<TextChunk>> shards = plan_shards(options);
  const auto num_shards = static_cast<std::int64_t>(shards.size());
  check_output(options.output_prefix, num_shards);
  const Vocabulary vocabulary = Vocabulary::of(tokenizer);
  Encoder encoder(tokenizer);
  TokenizeProgress progress;
  progress.num_shards = (num_shards + options.world_size - 1 - options.rank) / options.world_size;
  for (std::int64_t index = options.rank; index < num_shards; index += options.world_size) {
    const TokenShardContent content =
        tokenize_chunks(shards[static_cast<std::size_t>(index)], options.text, vocabulary, encoder);
    write_token_shard(shard_path(options.output_prefix, index, num_shards), content);
    ++progress.finished_shards;
    progress.num_documents += static_cast<std::int64_t>(content.document_bytes.size());
    progress.num_tokens += static_cast<std::int64_t>(content.tokens.size());
    for (const std::int64_t bytes : content.document_bytes) {
      progress.num_bytes += bytes;
    }
    if (report) {
      report(progress);
    }
  }
  return progress;
}

}  // namespace fathom::data
