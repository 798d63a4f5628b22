// A tokenizer.json, and behind a byte 0 a text for it.
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view input = test::as_text(bytes, size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(end + 1, input.size()));
  const auto tokenizer =
      test::unless_refused([&] { return data::Tokenizer(std::string(input.substr(0, end))); });
  if (!tokenizer) {
    return 0;
  }
  for (const auto added : {data::AddedTokens::kParse, data::AddedTokens::kAsText}) {
    // Refused where an expression without a scanner takes too long.
    const auto tokens = test::unless_refused([&] { return tokenizer->encode(text, added); });
    if (tokens) {
      const std::string decoded = tokenizer->decode(*tokens);
      test::must(tokenizer->changes_text() || decoded == text,
                 "a text is another after encoding and decoding");
    }
  }
  tokenizer->text_bytes_per_token();
  return 0;
}
