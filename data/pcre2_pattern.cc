#include "data/pcre2_pattern.h"

#include <pcre2.h>

#include <array>
#include <vector>

#include "core/error.h"
#include "data/pcre2_syntax.h"

namespace fathom::data {
namespace {

// Steps of the matcher at one place: of the order of a second.
constexpr std::uint32_t kMatchLimit = 10'000'000;
constexpr std::uint32_t kDepthLimit = 1'000'000;
constexpr std::uint32_t kHeapLimitKib = 256 << 10;

struct Release {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
  void operator()(pcre2_compile_context* context) const noexcept {
    pcre2_compile_context_free(context);
  }
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
};
template <class T>
using Owned = std::unique_ptr<T, Release>;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> message{};
  pcre2_get_error_message(error, message.data(), message.size());
  return reinterpret_cast<const char*>(message.data());
}

// A text with every byte that begins no well-formed sequence replaced by U+10FFFF, a code point
// that no one may use, and the places of the replaced bytes.
class ValidText {
 public:
  explicit ValidText(std::string_view text) : text_(text) {
    std::size_t copied = 0;
    for (std::size_t position = 0; position < text.size();) {
      const Utf8CodePoint next = code_point_at(text, position);
      if (next.value == kInvalidCodePoint) {
        copy_ += text.substr(copied, position - copied);
        replaced_.push_back(copy_.size());
        append_utf8(kNumCodePoints - 1, copy_);
        copied = position + 1;
      }
      position += next.num_bytes;
    }
    if (!replaced_.empty()) {
      copy_ += text.substr(copied);
      text_ = copy_;
    }
  }
  ValidText(const ValidText&) = delete;
  ValidText& operator=(const ValidText&) = delete;

  std::string_view text() const noexcept { return text_; }
  // The place in the text as it was. Places are asked for in ascending order.
  std::size_t original(std::size_t position) {
    while (num_passed_ < replaced_.size() && replaced_[num_passed_] < position) {
      ++num_passed_;
    }
    return position - 3 * num_passed_;  // four bytes stand for one
  }

 private:
  std::string copy_;
  std::vector<std::size_t> replaced_;
  std::string_view text_;
  std::size_t num_passed_ = 0;
};

class Pcre2Pattern final : public SplitPattern {
 public:
  explicit Pcre2Pattern(const std::string& regex) : regex_(regex) {
    const std::string translated = to_pcre2_syntax(regex);
    const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE place = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &place,
                              context.get()));
    if (code_ == nullptr) {
      throw ConfigError(concat("the pattern ", regex_, " is not valid: ", message_of(error)));
    }
    std::uint32_t matches_empty = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) {
      throw ConfigError(
          concat("the pattern ", regex_, " may match nothing at all, which is not supported"));
    }
    // Without the compiler (another processor) the interpreter does.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_depth_limit(context_.get(), kDepthLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  void for_each_match(std::string_view text, MatchVisitor visit) const override {
    ValidText valid(text);
    const Owned<pcre2_match_data> match(pcre2_match_data_create(1, nullptr));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    for (std::size_t from = 0; from < valid.text().size() && find(valid.text(), from, match.get());
         from = range[1]) {
      const std::size_t begin = valid.original(range[0]);
      visit({begin, valid.original(range[1])});
    }
  }

 private:
  bool find(std::string_view text, std::size_t from, pcre2_match_data* match) const {
    int found = run(text, from, PCRE2_NO_UTF_CHECK, match);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      // The interpreter keeps what it may have to come back to on the heap.
      found = run(text, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match);
    }
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
      throw ConfigError(concat("the pattern ", regex_, " takes too long on a text of ", text.size(),
                               " bytes, at byte ", from, ": ", message_of(found)));
    }
    return found >= 0;
  }

  int run(std::string_view text, std::size_t from, std::uint32_t options,
          pcre2_match_data* match) const {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options, match, context_.get());
  }

  std::string regex_;
  Owned<pcre2_code> code_;
  Owned<pcre2_match_context> context_;
};

}  // namespace

std::shared_ptr<const SplitPattern> make_pcre2_pattern(const std::string& regex) {
  return std::make_shared<Pcre2Pattern>(regex);
}

}  // namespace fathom::data
