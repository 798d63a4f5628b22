#include "data/text_source.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/error.h"
#include "data/line_reader.h"

namespace fathom::data {
namespace {

using nlohmann::json;

bool is_json_lines(const std::filesystem::path& file, const TextOptions& options) {
  if (options.format != TextFormat::kByName) {
    return options.format == TextFormat::kJsonLines;
  }
  const std::string extension = file.extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

// Of what is not text at all: compressed files have a zero byte within their first hundreds.
void refuse_zero_bytes(const std::filesystem::path& file, std::int64_t size) {
  constexpr std::int64_t kLookedAt = 4096;
  const std::int64_t looked_at = std::min(size, kLookedAt);
  if (bytes_before(file, looked_at, looked_at).find('\0') != std::string::npos) {
    throw ConfigError(concat(file.string(),
                             ": holds zero bytes, so it is no text (compressed? Parquet? UTF-16?): "
                             "unpack it or write it as UTF-8 first"));
  }
}

bool is_blank(std::string_view line) noexcept { return line == "\n" || line == "\r\n"; }

// Takes one string field out of a JSON object as the parser goes by: no tree is built, so that the
// nesting of a hostile line costs nothing. The names are those that nlohmann::json::sax_parse asks
// for.
class TextFieldHandler {
 public:
  TextFieldHandler(const std::string& field, std::string& text) : field_(field), text_(text) {}

  bool null() { return scalar("null"); }
  bool boolean(bool) { return scalar("a boolean"); }
  bool number_integer(json::number_integer_t) { return scalar("a number"); }
  bool number_unsigned(json::number_unsigned_t) { return scalar("a number"); }
  bool number_float(json::number_float_t, const std::string&) { return scalar("a number"); }
  bool binary(json::binary_t&) { return scalar("binary"); }
  bool string(std::string& value) {
    if (depth_ == 0) {
      return scalar("a string");
    }
    if (std::exchange(is_wanted_, false)) {
      text_ = std::move(value);
    }
    return true;
  }
  bool start_object(std::size_t) { return open("an object", true); }
  bool start_array(std::size_t) { return open("an array", false); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    is_wanted_ = depth_ == 1 && name == field_;
    if (is_wanted_ && std::exchange(is_found_, true)) {
      return fail(concat("field \"", field_, "\" twice"));
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& error) {
    return fail(concat("not valid JSON: ", error.what()));
  }

  bool is_found() const noexcept { return is_found_; }
  const std::string& problem() const noexcept { return problem_; }

 private:
  static constexpr int kMaxDepth = 64;

  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  bool scalar(const char* kind) {
    if (depth_ == 0) {
      return fail(concat("want a JSON object, not ", kind));
    }
    return is_wanted_ ? fail(concat("field \"", field_, "\" is ", kind, ", not a string")) : true;
  }
  bool open(const char* kind, bool is_object) {
    if (is_wanted_ || (depth_ == 0 && !is_object)) {
      return scalar(kind);
    }
    return ++depth_ <= kMaxDepth ? true : fail(concat("nested deeper than ", kMaxDepth));
  }
  bool close() {
    --depth_;
    return true;
  }

  const std::string& field_;
  std::string& text_;
  std::string problem_;
  int depth_ = 0;
  bool is_wanted_ = false;
  bool is_found_ = false;
};

}  // namespace

class DocumentReader::Source {
 public:
  virtual ~Source() = default;
  virtual bool next(std::string& document) = 0;
};

class DocumentReader::PlainSource : public Source {
 public:
  PlainSource(const TextChunk& chunk, const TextOptions& options)
      : end_(chunk.end),
        max_bytes_(static_cast<std::size_t>(options.max_document_bytes)),
        min_bytes_(options.plain_documents == PlainDocuments::kWholeFile
                       ? std::numeric_limits<std::size_t>::max()
                       : static_cast<std::size_t>(options.min_document_bytes)),
        reader_(chunk.file, chunk.begin, options.max_document_bytes),
        is_inside_(chunk.begin == 0) {
    // Whether a paragraph begins right here is told by the line before: as if the file followed a
    // newline.
    std::string before = bytes_before(chunk.file, chunk.begin, 3);
    if (before.size() < 3) {
      before = concat("\n", before);
    }
    is_line_start_ = before.ends_with('\n');
    is_after_blank_line_ = before.ends_with("\n\n") || before.ends_with("\n\r\n");
    is_after_lone_return_ = before.ends_with("\n\r");
  }

  bool next(std::string& document) override {
    document = std::exchange(pending_, {});
    while (!is_finished_ && reader_.next(line_)) {
      if (is_paragraph_start()) {
        if (reader_.line_begin() >= end_) {
          is_finished_ = true;
          break;
        }
        if (is_inside_ && document.size() >= min_bytes_) {
          return postpone_line();
        }
        is_inside_ = true;
      }
      if (is_inside_ && !document.empty() && document.size() + line_.size() > max_bytes_) {
        return postpone_line();
      }
      note_line();
      if (is_inside_) {
        document += line_;
      }
    }
    is_finished_ = true;
    return !document.empty();
  }

 private:
  bool is_paragraph_start() const noexcept {
    return is_line_start_ && is_after_blank_line_ && !is_blank(line_);
  }

  // The line belongs to the next document.
  bool postpone_line() {
    note_line();
    pending_ = line_;
    return true;
  }

  void note_line() noexcept {
    is_after_blank_line_ =
        is_line_start_ ? is_blank(line_) : is_after_lone_return_ && line_ == "\n";
    is_after_lone_return_ = false;
    is_line_start_ = line_.ends_with('\n');
  }

  std::int64_t end_;
  std::size_t max_bytes_;
  std::size_t min_bytes_;
  LineReader reader_;
  std::string line_;
  std::string pending_;
  bool is_inside_;  // past the end of the document that began in the chunk before
  bool is_finished_ = false;
  bool is_line_start_ = false;
  bool is_after_blank_line_ = false;
  bool is_after_lone_return_ = false;
};

class DocumentReader::JsonLinesSource : public Source {
 public:
  JsonLinesSource(const TextChunk& chunk, const TextOptions& options)
      : chunk_(chunk),
        options_(options),
        reader_(chunk.file, chunk.begin, options.max_document_bytes) {
    if (chunk.begin > 0 && bytes_before(chunk.file, chunk.begin, 1) != "\n") {
      while (reader_.next(line_) && line_.back() != '\n') {
      }
    }
  }

  bool next(std::string& document) override {
    while (reader_.next(line_) && reader_.line_begin() < chunk_.end) {
      if (line_.back() != '\n' &&
          static_cast<std::int64_t>(line_.size()) + 4 > options_.max_document_bytes) {
        refuse(concat("a line longer than ", options_.max_document_bytes, " bytes"));
      }
      if (line_.find_first_not_of(" \t\r\n") == std::string::npos) {
        continue;
      }
      document.clear();
      TextFieldHandler handler(options_.text_field, document);
      if (!json::sax_parse(line_, &handler)) {
        refuse(handler.problem());
      }
      if (!handler.is_found()) {
        refuse(concat("no field \"", options_.text_field, "\""));
      }
      if (!document.empty()) {
        return true;
      }
    }
    return false;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    throw ConfigError(concat(chunk_.file.string(), ":",
                             line_number_at(chunk_.file, reader_.line_begin()), ": ", problem));
  }

  TextChunk chunk_;
  TextOptions options_;
  LineReader reader_;
  std::string line_;
};

DocumentReader::DocumentReader(const TextChunk& chunk, const TextOptions& options) {
  if (is_json_lines(chunk.file, options)) {
    source_ = std::make_unique<JsonLinesSource>(chunk, options);
  } else {
    source_ = std::make_unique<PlainSource>(chunk, options);
  }
}

DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;

bool DocumentReader::next(std::string& document) { return source_->next(document); }

std::vector<TextChunk> cut_into_chunks(const std::vector<std::filesystem::path>& files,
                                       std::int64_t chunk_bytes, const TextOptions& options) {
  if (files.empty()) {
    throw ConfigError("no text files given");
  }
  if (chunk_bytes < 1 || options.min_document_bytes < 1 || options.max_document_bytes < 64) {
    throw ConfigError(concat("chunk of ", chunk_bytes, " bytes, documents of ",
                             options.min_document_bytes, " to ", options.max_document_bytes,
                             " bytes: want at least 1, 1 and 64"));
  }
  std::vector<TextChunk> chunks;
  for (const std::filesystem::path& file : files) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) {
      throw IoError(concat("cannot read ", file.string(), ": ",
                           error ? error.message() : std::string("not a regular file")),
                    error.value());
    }
    const auto size = static_cast<std::int64_t>(std::filesystem::file_size(file));
    const bool is_plain = !is_json_lines(file, options);
    if (is_plain) {
      refuse_zero_bytes(file, size);
    }
    const bool is_one_chunk = is_plain && options.plain_documents == PlainDocuments::kWholeFile;
    const std::int64_t step = is_one_chunk ? std::max<std::int64_t>(size, 1) : chunk_bytes;
    for (std::int64_t begin = 0; begin == 0 || begin < size; begin += step) {
      chunks.push_back({file, begin, std::min(begin + step, size)});
    }
  }
  return chunks;
}

}  // namespace fathom::data
