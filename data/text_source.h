#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace fathom::data {

enum class TextFormat {
  kByName,  // .jsonl, .ndjson, .json: JSON lines; anything else: plain text
  kPlain,
  kJsonLines,  // one object a line; its text field is a document
};

// How plain text is cut into documents. Nothing is dropped: the documents one after another are the
// file.
enum class PlainDocuments {
  kParagraphs,  // at blank lines, paragraphs gathered until min_document_bytes are there
  kWholeFile,
};

struct TextOptions {
  TextFormat format = TextFormat::kByName;
  PlainDocuments plain_documents = PlainDocuments::kParagraphs;
  std::int64_t min_document_bytes = 4096;
  // A text without blank lines is cut here, at the end of a line or at least of a character. Longer
  // JSON lines are refused.
  std::int64_t max_document_bytes = std::int64_t{64} << 20;
  std::string text_field = "text";
};

// A part of a file that is read apart from the others: the documents that begin at bytes begin ..
// end - 1 of it.
struct TextChunk {
  std::filesystem::path file;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Cuts the files, in the order given, into chunks of chunk_bytes, which depend on nothing but their
// sizes; a file to be read whole is one chunk. Throws IoError for a file that is missing or no
// regular file, ConfigError for an empty list and for plain text with a zero byte at its beginning:
// compressed files, Parquet and UTF-16 have one, and would become tokens like any other bytes.
std::vector<TextChunk> cut_into_chunks(const std::vector<std::filesystem::path>& files,
                                       std::int64_t chunk_bytes, const TextOptions& options);

// The documents of one chunk, in order. Every document of a file belongs to exactly one of its
// chunks. Blank JSON lines and empty documents are passed over. Errors name file and line:
// ConfigError for a line that is no JSON object with a string in the text field, IoError when the
// file cannot be read.
class DocumentReader {
 public:
  DocumentReader(const TextChunk& chunk, const TextOptions& options);
  ~DocumentReader();
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;

  // Writes the next document into `document`; false when there is none.
  bool next(std::string& document);

 private:
  class Source;
  class PlainSource;
  class JsonLinesSource;
  std::unique_ptr<Source> source_;
};

}  // namespace fathom::data
