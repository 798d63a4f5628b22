#include "data/text_source.h"

#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

std::filesystem::path write(const test::TemporaryFolder& folder, const std::string& name,
                            const std::string& text) {
  std::ofstream(folder.path() / name, std::ios::binary) << text;
  return folder.path() / name;
}

std::vector<std::string> documents_of(const std::filesystem::path& file, const TextOptions& options,
                                      std::int64_t chunk_bytes = 1 << 30) {
  std::vector<std::string> documents;
  for (const TextChunk& chunk : cut_into_chunks({file}, chunk_bytes, options)) {
    DocumentReader reader(chunk, options);
    for (std::string document; reader.next(document);) {
      documents.push_back(document);
    }
  }
  return documents;
}

TEST_CASE("Plain text is cut at blank lines and nothing is lost") {
  const test::TemporaryFolder folder;
  const auto file = write(folder, "a.txt", "\n\none\ntwo\n\nthree\r\n\r\n\r\nfour\n \nfive");
  const std::vector<std::string> want = {"\n\n", "one\ntwo\n\n", "three\r\n\r\n\r\n",
                                         "four\n \nfive"};
  CHECK(documents_of(file, {.min_document_bytes = 1}) == want);
  const std::vector<std::string> gathered = {"\n\none\ntwo\n\n", "three\r\n\r\n\r\n",
                                             "four\n \nfive"};
  CHECK(documents_of(file, {.min_document_bytes = 3}) == gathered);
  CHECK(documents_of(file, {.plain_documents = PlainDocuments::kWholeFile}).size() == 1);
}

TEST_CASE("Every paragraph belongs to exactly one chunk, wherever the chunks are cut") {
  const test::TemporaryFolder folder;
  const RandomSource random(3, "text");
  std::string text;
  const std::vector<std::string> parts = {"a", "b\n", "\n", "\r\n", "c\r\n", "\n\n", "\r", "word "};
  for (std::uint64_t i = 0; i < 400; ++i) {
    text += parts[random.below(i, parts.size())];
  }
  const auto file = write(folder, "a.txt", text);
  const TextOptions options{.min_document_bytes = 1};
  const std::vector<std::string> want = documents_of(file, options);
  CHECK(want.size() > 20);
  for (std::int64_t chunk_bytes = 1; chunk_bytes < 60; ++chunk_bytes) {
    CHECK(documents_of(file, options, chunk_bytes) == want);
  }
  std::string all;
  for (const std::string& document : documents_of(file, {.min_document_bytes = 30}, 100)) {
    all += document;
  }
  CHECK(all == text);
}

TEST_CASE("A text without blank lines is cut at the limit, between characters") {
  const test::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) {
    text += "\xe6\xbc\xa2";
  }
  const auto file = write(folder, "a.txt", text);
  std::string all;
  for (const std::string& document : documents_of(file, {.max_document_bytes = 64})) {
    CHECK(document.size() <= 64);
    CHECK(document.size() % 3 == 0);
    all += document;
  }
  CHECK(all == text);
}

TEST_CASE("JSON lines are documents, each in exactly one chunk") {
  const test::TemporaryFolder folder;
  const auto file =
      write(folder, "a.jsonl",
            "{\"text\": \"one\"}\n\n{\"id\": {\"text\": [1]}, \"text\": \"two\\n\\u6f22\"}\r\n"
            "{\"text\": \"\"}\n{\"text\": \"three\", \"n\": [[]]}");
  const std::vector<std::string> want = {"one", "two\n\xe6\xbc\xa2", "three"};
  for (std::int64_t chunk_bytes = 1; chunk_bytes < 120; ++chunk_bytes) {
    CHECK(documents_of(file, {}, chunk_bytes) == want);
  }
}

TEST_CASE("A bad JSON line is named by file and line") {
  const test::TemporaryFolder folder;
  const auto refusal = [&](const std::string& line) {
    const auto file =
        write(folder, "a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n" + line + "\n");
    for (const std::int64_t chunk_bytes : {20, 1000}) {
      try {
        documents_of(file, {.max_document_bytes = 1000}, chunk_bytes);
        return std::string();
      } catch (const ConfigError& error) {
        CHECK(error.message().find(file.string() + ":3: ") == 0);
      }
    }
    return std::string("refused");
  };
  CHECK(refusal("{\"text\": \"three\"}").empty());
  for (const std::string line :
       {"{\"text\": \"thr", "{\"txt\": \"three\"}", "{\"text\": 3}", "{\"text\": [\"a\"]}",
        "{\"text\": null}", "[1]", "\"text\"", "7", "{\"text\": \"a\", \"text\": \"b\"}",
        "{\"text\": \"\xff\"}", "{\"text\": \"a\"} {\"text\": \"b\"}"}) {
    INFO(line);
    CHECK(refusal(line) == "refused");
  }
  CHECK(refusal("{\"a\": " + std::string(400, '[') + std::string(400, ']') + "}") == "refused");
  CHECK(refusal("{\"text\": \"" + std::string(2000, 'a') + "\"}") == "refused");
}

TEST_CASE(
    "What is no text is refused before anything is cut, and a file of JSON lines is not looked "
    "at") {
  const test::TemporaryFolder folder;
  const auto chunks_of = [&](const std::string& name, const std::string& text) {
    return cut_into_chunks({write(folder, name, text)}, 100, {}).size();
  };
  const std::string gzip("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10);
  CHECK_THROWS_WITH(
      chunks_of("a.jsonl.gz", gzip),
      Catch::Contains("a.jsonl.gz: holds zero bytes") && Catch::Contains("unpack it"));
  CHECK_THROWS_AS(chunks_of("a.txt", std::string(4095, 'a') + '\0'), ConfigError);
  CHECK(chunks_of("b.txt", std::string(4096, 'a') + '\0') == 41);
  CHECK(chunks_of("c.jsonl", gzip) == 1);
  CHECK(chunks_of("d.txt", "") == 1);
}

TEST_CASE("Missing files, folders and empty lists are refused") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(cut_into_chunks({}, 100, {}), ConfigError);
  CHECK_THROWS_AS(cut_into_chunks({folder.path() / "none.txt"}, 100, {}), IoError);
  CHECK_THROWS_AS(cut_into_chunks({folder.path()}, 100, {}), IoError);
  CHECK(documents_of(write(folder, "empty.txt", ""), {}).empty());
}

}  // namespace
}  // namespace fathom::data
