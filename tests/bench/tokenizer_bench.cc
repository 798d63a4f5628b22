// Speed of encoding a text on one core: tokenizer_bench TOKENIZER.json TEXT [IDS]
// TEXT is cut into documents of some 4 KiB at ends of lines. IDS: a file for the tokens, int32.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "data/tokenizer.h"
#include "tests/bench/timing.h"

namespace {

constexpr std::size_t kDocumentBytes = 4096;

std::vector<std::string_view> documents_of(std::string_view text) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    const std::size_t newline = text.find('\n', std::min(kDocumentBytes, text.size()));
    const std::size_t size = newline == std::string_view::npos ? text.size() : newline + 1;
    documents.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return documents;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace fathom;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER.json TEXT [IDS]\n");
    return 2;
  }
  const data::Tokenizer tokenizer = data::Tokenizer::load(arguments[0]);
  const std::string text = read_file(arguments[1]);
  const std::vector<std::string_view> documents = documents_of(text);
  std::vector<std::int32_t> tokens;
  const double seconds = bench::best_seconds(true, 1.0, [&] {
    tokens.clear();
    data::Encoder encoder(tokenizer);  // remembers nothing of the run before
    for (const std::string_view document : documents) {
      encoder.encode(document, data::AddedTokens::kParse, tokens);
    }
  });
  std::printf("%zu bytes, %zu documents, %zu tokens: %.3f s, %.1f MB/s\n", text.size(),
              documents.size(), tokens.size(), seconds,
              1e-6 * static_cast<double>(text.size()) / seconds);
  if (arguments.size() > 2) {
    std::ofstream(arguments[2], std::ios::binary)
        .write(reinterpret_cast<const char*>(tokens.data()),
               static_cast<std::streamsize>(tokens.size() * sizeof(std::int32_t)));
  }
}
