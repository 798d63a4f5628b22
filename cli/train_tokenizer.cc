#include <cstdint>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/file.h"
#include "core/stream.h"
#include "data/bpe_trainer.h"
#include "data/text_source.h"
#include "data/tokenizer.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kHelp =
    R"(usage: fathom train-tokenizer FILE... --output TOKENIZER.json [--vocab_size N] [--split NAME]
                               [--text_field NAME]

Learns a byte-level BPE tokenizer and writes it as a tokenizer.json, which the Hugging Face packages read too. FILE is plain text or
JSON lines (.jsonl).

  --output PATH       where the tokenizer goes
  --vocab_size N      entries: 256 bytes, merged tokens and 6 special tokens (default 4096)
  --split NAME        how text is cut into the pieces that tokens never reach across: as by gpt2, llama3, qwen2, deepseek-v2 or
                      deepseek-v3 (default llama3)
  --text_field NAME   the field of a JSON line that holds the text (default text)

example:
  fathom train-tokenizer corpus.txt --vocab_size 4096 --output tokenizer.json
)";

constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;

data::WordCounts count_words(const std::vector<std::string>& files,
                             const data::TextOptions& options,
                             const data::PretokenizerDefinition& split, int num_threads) {
  const std::vector<data::TextChunk> chunks =
      data::cut_into_chunks({files.begin(), files.end()}, kChunkBytes, options);
  data::WordCounts counts(split);
  std::mutex mutex;
  Stream stream(Device{}, num_threads);
  // Which thread counts what makes no difference to the sums.
  stream.parallel_for(std::ssize(chunks), 1, [&](std::int64_t begin, std::int64_t end) {
    data::WordCounts part(split);
    for (std::int64_t i = begin; i < end; ++i) {
      data::DocumentReader reader(chunks[static_cast<std::size_t>(i)], options);
      for (std::string document; reader.next(document);) {
        part.add(document);
      }
    }
    const std::lock_guard lock(mutex);
    counts.merge(part);
  });
  return counts;
}

int run(std::span<const std::string> arguments, Session& session) {
  const ParsedOptions options(arguments, {{"output"}, {"vocab_size"}, {"split"}, {"text_field"}});
  if (options.positional().empty()) {
    throw ConfigError("no FILE to learn from is given");
  }
  const std::string output = options.required("output");
  data::BpeTrainerOptions trainer;
  if (options.has("vocab_size")) {
    trainer.vocab_size = static_cast<std::int32_t>(options.integer("vocab_size", 1, INT32_MAX));
  }
  const data::PretokenizerDefinition split =
      data::published_pretokenizer(options.value("split").value_or("llama3"));
  data::TextOptions text;
  text.text_field = options.value("text_field").value_or(text.text_field);

  create_folder_of(output);
  const data::WordCounts counts =
      count_words(options.positional(), text, split, cores_of_this_process());
  const data::Tokenizer tokenizer = data::train_bpe(counts, trainer);
  session.begin_running();
  tokenizer.save(output);
  std::cout << concat(output, ": ", tokenizer.vocab_size(), " tokens from ",
                      counts.num_different_words(), " different words\n");
  return kExitDone;
}

}  // namespace

Command train_tokenizer_command() {
  return {.name = "train-tokenizer",
          .summary = "learns a tokenizer.json from text",
          .help = kHelp,
          .uses_ranks = false,
          .run = run};
}

}  // namespace fathom::cli
