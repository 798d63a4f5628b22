#include "data/tokenize.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/session.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: [mpirun -n RANKS] fathom tokenize FILE... --tokenizer TOKENIZER.json --output PREFIX
         [--shard_bytes N] [--text_field NAME]

Writes text as token shards, HDF5 files that pretrain reads: PREFIX-00000-of-00004.h5 and so on. FILE is JSON lines (.jsonl,
.ndjson, .json), one document a line, or plain text, which is cut into documents at blank lines, paragraphs being gathered until
4096 bytes are there. It is not compressed; Parquet and Megatron's .bin and .idx are not read. Several ranks share the work, a
shard at a time; the shards do not depend on how many. A rank takes two to three times the memory that a shard's text has.

  --tokenizer PATH    a tokenizer.json, as of train-tokenizer or Hugging Face
  --output PREFIX     where the shards go and how their names begin
  --shard_bytes N     bytes of text per shard (default: a 256th of the text, at least 33554432 and at most 1073741824);
                      small files share a shard
  --text_field NAME   the field of a JSON line that holds the text (default text)

example:
  mpirun -n 2 fathom tokenize corpus.txt --tokenizer tokenizer.json --output data/train
)";

constexpr double kMegabyte = 1e6;

data::TokenizeOptions read_options(std::span<const std::string> arguments, std::string& tokenizer) {
  const ParsedOptions options(arguments,
                              {{"tokenizer"}, {"output"}, {"shard_bytes"}, {"text_field"}});
  if (options.positional().empty()) {
    throw ConfigError("no FILE to tokenize is given");
  }
  tokenizer = options.required("tokenizer");
  data::TokenizeOptions result;
  result.files.assign(options.positional().begin(), options.positional().end());
  result.output_prefix = options.required("output");
  result.text.text_field = options.value("text_field").value_or(result.text.text_field);
  if (options.has("shard_bytes")) {
    result.shard_bytes = options.integer("shard_bytes", 1, INT64_MAX);
  }
  return result;
}

// Over all ranks.
data::TokenizeProgress total(const data::TokenizeProgress& mine, parallel::Communicator& world) {
  const std::array numbers{mine.num_shards, mine.num_documents, mine.num_tokens, mine.num_bytes};
  const std::vector<std::int64_t> sums = parallel::sum_integers(numbers, world);
  data::TokenizeProgress sum;
  sum.num_shards = sums[0];
  sum.num_documents = sums[1];
  sum.num_tokens = sums[2];
  sum.num_bytes = sums[3];
  return sum;
}

int run(std::span<const std::string> arguments, Session& session) {
  std::string tokenizer_path;
  data::TokenizeOptions options = read_options(arguments, tokenizer_path);
  session.start();
  options.rank = session.rank();
  options.world_size = session.world().world_size();
  std::optional<data::Tokenizer> tokenizer;
  parallel::agree(session.world(), [&] {
    tokenizer = data::Tokenizer::load(tokenizer_path);
    data::require_end_of_sentence(*tokenizer, tokenizer_path);
    data::plan_shards(options);  // all files are there, and text
  });
  session.begin_running();
  const bool speaks = session.rank() == 0;
  const auto report = [&](const data::TokenizeProgress& progress) {
    session.heartbeat().count_progress();
    if (speaks) {
      std::cerr << concat("shard ", progress.finished_shards, " of ", progress.num_shards,
                          options.world_size > 1 ? " of rank 0\n" : "\n");
    }
  };
  const data::TokenizeProgress sum =
      total(data::write_token_shards(*tokenizer, options, report), session.world());
  if (speaks) {
    const auto bytes = static_cast<double>(sum.num_bytes);
    std::cout << concat(
        options.output_prefix.string(), ": ", sum.num_shards, " shards, ", sum.num_documents,
        " documents, ", sum.num_tokens, " tokens of ", bytes / kMegabyte, " MB of text, ",
        bytes / static_cast<double>(std::max<std::int64_t>(1, sum.num_tokens)), " bytes a token\n");
  }
  return kExitDone;
}

}  // namespace

Command tokenize_command() {
  return {.name = "tokenize",
          .summary = "writes text as token shards",
          .help = kHelp,
          .uses_ranks = true,
          .run = run};
}

}  // namespace fathom::cli
