#include "trainer/hf/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/round_up.h"

namespace fathom::trainer {
namespace {

using nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";

bool is_clean(std::string_view name) {
  return std::none_of(name.begin(), name.end(), [](char letter) {
    const auto byte = static_cast<unsigned char>(letter);
    return byte < 0x20 || byte == 0x7f;
  });
}

// Takes the parser's events as they come, so that nothing is kept of a header but its entries, and
// refuses whatever has no place in one.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& origin) : origin_(origin) {}

  std::vector<SafetensorsEntry> take() { return std::move(entries_); }

  bool null() override { refuse("null"); }
  bool boolean(bool /*value*/) override { refuse("true or false"); }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    refuse(concat("the number ", text.substr(0, kShown)));
  }
  bool binary(binary_t& /*value*/) override { refuse("bytes"); }
  bool number_integer(number_integer_t value) override { refuse(concat("the number ", value)); }

  bool number_unsigned(number_unsigned_t value) override {
    if (where_ != Where::kShape && where_ != Where::kOffsets) {
      refuse(concat("the number ", value));
    }
    if (value > INT64_MAX) {
      fail("the number ", value, " is too large");
    }
    const std::size_t limit = where_ == Where::kShape ? kMaxTensorRank : 2;
    if (numbers_.size() == limit) {
      fail(where_ == Where::kShape ? "shape" : "data_offsets", " has more than ", limit,
           " numbers");
    }
    numbers_.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (where_ == Where::kMetadata) {
      return true;
    }
    if (where_ != Where::kTensor || field_ != Field::kDType) {
      refuse("a string");
    }
    const std::optional<WeightDType> dtype = parse_weight_dtype(value);
    if (!dtype) {
      fail("dtype \"", is_clean(value) ? value.substr(0, kShown) : "?", "\"; weights are ",
           kWeightDTypeNames);
    }
    entry_.dtype = *dtype;
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    switch (where_) {
      case Where::kOutside:
        where_ = Where::kTop;
        return true;
      case Where::kTop:
        where_ = is_metadata_ ? Where::kMetadata : Where::kTensor;
        return true;
      default:
        refuse("an object");
    }
  }

  bool key(string_t& name) override {
    switch (where_) {
      case Where::kTop:
        begin_entry(name);
        break;
      case Where::kMetadata:
        if (!metadata_keys_.insert(name).second) {
          fail("a doubled key in ", kMetadataKey);
        }
        break;
      default:
        begin_field(name);
    }
    return true;
  }

  bool end_object() override {
    if (where_ == Where::kTensor) {
      for (const Field field : {Field::kDType, Field::kShape, Field::kOffsets}) {
        if (!has(field)) {
          fail("no ", name_of(field));
        }
      }
      entries_.push_back(std::move(entry_));
    }
    where_ = where_ == Where::kTop ? Where::kOutside : Where::kTop;
    return true;
  }

  bool start_array(std::size_t /*size*/) override {
    if (where_ != Where::kTensor || (field_ != Field::kShape && field_ != Field::kOffsets)) {
      refuse("an array");
    }
    where_ = field_ == Field::kShape ? Where::kShape : Where::kOffsets;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    if (where_ == Where::kShape) {
      entry_.shape = numbers_;
    } else {
      if (numbers_.size() != 2) {
        fail("data_offsets has ", numbers_.size(), " numbers, wanted 2");
      }
      entry_.begin = numbers_[0];
      entry_.end = numbers_[1];
    }
    where_ = Where::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    throw ConfigError(concat(origin_, ": the header is not valid JSON at byte ", position));
  }

 private:
  enum class Where { kOutside, kTop, kMetadata, kTensor, kShape, kOffsets };
  enum class Field : unsigned { kNone = 0, kDType = 1, kShape = 2, kOffsets = 4 };
  static constexpr std::size_t kShown = 64;  // letters of a text from the file in a message

  static std::string_view name_of(Field field) {
    return field == Field::kDType ? "dtype" : field == Field::kShape ? "shape" : "data_offsets";
  }
  bool has(Field field) const { return (fields_ & static_cast<unsigned>(field)) != 0; }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw ConfigError(concat(origin_, ": ", entry_.name.empty() ? "" : "tensor ", entry_.name,
                             entry_.name.empty() ? "" : ": ", parts...));
  }
  [[noreturn]] void refuse(const std::string& what) const {
    fail(what, " where a safetensors header has none");
  }

  void begin_entry(std::string& name) {
    entry_ = {};
    fields_ = 0;
    if (name.empty() || name.size() > kMaxTensorNameBytes || !is_clean(name)) {
      fail("a tensor name of ", name.size(), " bytes, or with control characters; at most ",
           kMaxTensorNameBytes, " are allowed");
    }
    if (!names_.insert(name).second) {
      fail("tensor ", name, " is there twice");
    }
    is_metadata_ = name == kMetadataKey;
    if (is_metadata_) {
      return;
    }
    if (entries_.size() == kMaxSafetensorsTensors) {
      fail("more than ", kMaxSafetensorsTensors, " tensors");
    }
    entry_.name = std::move(name);
  }

  void begin_field(const std::string& name) {
    field_ = name == "dtype"          ? Field::kDType
             : name == "shape"        ? Field::kShape
             : name == "data_offsets" ? Field::kOffsets
                                      : Field::kNone;
    if (field_ == Field::kNone || has(field_)) {
      fail("field \"", is_clean(name) ? name.substr(0, kShown) : "?", "\" is ",
           field_ == Field::kNone ? "unknown" : "there twice");
    }
    fields_ |= static_cast<unsigned>(field_);
  }

  const std::string& origin_;
  Where where_ = Where::kOutside;
  bool is_metadata_ = false;
  Field field_ = Field::kNone;
  unsigned fields_ = 0;  // those that the tensor has had
  SafetensorsEntry entry_;
  std::vector<std::int64_t> numbers_;
  std::vector<SafetensorsEntry> entries_;
  std::unordered_set<std::string> names_, metadata_keys_;
};

void check_size(const SafetensorsEntry& entry, std::int64_t data_bytes, const std::string& origin) {
  const auto fail = [&](const auto&... parts) {
    throw ConfigError(concat(origin, ": tensor ", entry.name, ": ", parts...));
  };
  if (entry.begin > entry.end || entry.end > data_bytes) {
    fail("data_offsets [", entry.begin, ", ", entry.end, "] are not in the ", data_bytes,
         " bytes of data");
  }
  std::int64_t bytes = size_of(entry.dtype);
  bool is_possible = true;
  for (const std::int64_t size : entry.shape) {
    is_possible = is_possible && !__builtin_mul_overflow(bytes, size, &bytes);
  }
  if (!is_possible || bytes != entry.size_bytes()) {
    fail("shape and dtype ", entry.dtype, " make ",
         is_possible ? concat(bytes) : std::string("more than 2^63"), " bytes, data_offsets ",
         entry.size_bytes());
  }
}

void check_cover(const std::vector<SafetensorsEntry>& entries, std::int64_t data_bytes,
                 const std::string& origin) {
  std::int64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != covered) {
      throw ConfigError(concat(
          origin, ": tensor ", entry.name, " begins at byte ", entry.begin, " of the data, ",
          entry.begin < covered ? "inside the one before, which ends at " : "after a hole from ",
          covered));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    throw ConfigError(concat(origin, ": the tensors take ", covered, " bytes, the file has ",
                             data_bytes, " after its header"));
  }
}

}  // namespace

std::int64_t safetensors_header_bytes(std::span<const std::byte> prefix, std::int64_t file_bytes,
                                      const std::string& origin) {
  if (std::ssize(prefix) < kSafetensorsPrefixBytes || file_bytes < kSafetensorsPrefixBytes) {
    throw ConfigError(
        concat(origin, ": ", file_bytes, " bytes are too few for a safetensors file"));
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(kSafetensorsPrefixBytes); ++i) {
    length |= static_cast<std::uint64_t>(prefix[i]) << (8 * i);
  }
  if (length > static_cast<std::uint64_t>(kMaxSafetensorsHeaderBytes)) {
    throw ConfigError(concat(origin, ": a header of ", length, " bytes, at most ",
                             kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  const std::int64_t rest = file_bytes - kSafetensorsPrefixBytes;
  if (static_cast<std::int64_t>(length) > rest) {
    throw ConfigError(concat(origin, ": a header of ", length, " bytes in a file that has ", rest,
                             " after its length: is it cut off?"));
  }
  return static_cast<std::int64_t>(length);
}

std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view header,
                                                       std::int64_t data_bytes,
                                                       const std::string& origin) {
  if (!header.starts_with('{')) {
    throw ConfigError(concat(origin, ": the header does not begin with '{'"));
  }
  HeaderReader reader(origin);
  json::sax_parse(header.begin(), header.end(), &reader);
  std::vector<SafetensorsEntry> entries = reader.take();
  for (const SafetensorsEntry& entry : entries) {
    check_size(entry, data_bytes, origin);
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_cover(entries, data_bytes, origin);
  return entries;
}

std::string write_safetensors_header(std::span<const SafetensorsEntry> entries) {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  for (const SafetensorsEntry& entry : entries) {
    text +=
        concat(',', json(entry.name).dump(), R"(:{"dtype":")", entry.dtype, R"(","shape":)",
               json(entry.shape).dump(), R"(,"data_offsets":[)", entry.begin, ',', entry.end, "]}");
  }
  text += '}';
  constexpr std::int64_t kAlignment = 8;
  text.resize(static_cast<std::size_t>(round_up(std::ssize(text), kAlignment)), ' ');
  std::string prefix(static_cast<std::size_t>(kSafetensorsPrefixBytes), '\0');
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    prefix[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  }
  return prefix + text;
}

}  // namespace fathom::trainer
