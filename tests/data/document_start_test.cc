#include "data/document_start.h"

#include "core/error.h"
#include "data/prompt_template.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

using test::kBegin;
using test::kUser;
using Tokens = std::vector<std::int32_t>;
constexpr DocumentStart kBos = DocumentStart::kBos;

TEST_CASE("The begin of sentence stands before a text once") {
  const Tokenizer tokenizer = test::byte_tokenizer();
  CHECK(encode_document(tokenizer, "a<｜User｜>", kBos) == Tokens{kBegin, 'a', kUser});
  CHECK(encode_document(tokenizer, "<|begin_of_sentence|>a", kBos) == Tokens{kBegin, 'a'});
  CHECK(encode_document(tokenizer, "", kBos) == Tokens{kBegin});
  CHECK(encode_document(tokenizer, "a", DocumentStart::kPlain) == Tokens{'a'});
}

TEST_CASE("It stands before a template, which a prompt cannot make do without") {
  const Tokenizer tokenizer = test::byte_tokenizer();
  const PromptTemplate prompt(tokenizer, "{prompt}!", kBos);
  CHECK(prompt.encode("a") == Tokens{kBegin, 'a', '!'});
  const std::string forged = "<|begin_of_sentence|>";
  CHECK(prompt.encode(forged).size() == forged.size() + 2);
  CHECK(PromptTemplate(tokenizer, "Q{prompt}", kBos).encode("a") == Tokens{kBegin, 'Q', 'a'});
  CHECK(PromptTemplate(tokenizer, forged + "{prompt}", kBos).encode("a") == Tokens{kBegin, 'a'});
}

TEST_CASE("A tokenizer without a begin of sentence is refused, where one is asked for") {
  const Tokenizer tokenizer = test::byte_tokenizer({"<|end_of_sentence|>"});
  CHECK_THROWS_AS(encode_document(tokenizer, "a", kBos), ConfigError);
  CHECK_THROWS_WITH(PromptTemplate(tokenizer, "{prompt}", kBos),
                    Catch::Contains("data.document_start is BOS"));
  CHECK_NOTHROW(PromptTemplate(tokenizer, "{prompt}"));
}

}  // namespace
}  // namespace fathom::data
