#include "data/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/error.h"
#include "data/utf8.h"

namespace fathom::data {
namespace {

bool composes(NormalizationForm form) noexcept {
  return form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
}

bool is_compatible(NormalizationForm form) noexcept {
  return form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
}

// Whether the code point stays as it is beside others of which this is true, and never composes
// with what stands before it: combining class 0, no decomposition in this form, second in no
// composition. Covers most of English, Cyrillic, Chinese, Korean and Japanese, not all that it
// could.
bool is_inert(NormalizationForm form, std::uint32_t code_point) noexcept {
  if (form != NormalizationForm::kNfc) {
    return code_point < 0x80;
  }
  return code_point < 0x300 || (code_point >= 0x400 && code_point < 0x483) ||
         (code_point >= 0x2010 && code_point < 0x2027) ||
         (code_point >= 0x3001 && code_point < 0x302a) ||
         (code_point >= 0x3041 && code_point < 0x3097) ||
         (code_point >= 0x30a0 && code_point < 0x3100) ||
         (code_point >= 0x4e00 && code_point < 0xa000) ||
         (code_point >= 0xac00 && code_point < 0xd7a4) ||
         (code_point >= 0xff00 && code_point < 0xfff0);
}

// Well-formed text on its way to a form.
class Composer {
 public:
  explicit Composer(NormalizationForm form) : form_(form) {}

  void add(std::uint32_t code_point) {
    constexpr std::size_t kMaxDecomposition = 32;  // the longest has 18
    std::array<utf8proc_int32_t, kMaxDecomposition> parts{};
    int last_class = 0;
    const auto options = static_cast<utf8proc_option_t>(
        is_compatible(form_) ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE);
    const utf8proc_ssize_t size =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts.data(),
                                kMaxDecomposition, options, &last_class);
    FATHOM_CHECK(size >= 0 && size <= static_cast<utf8proc_ssize_t>(kMaxDecomposition), size);
    code_points_.insert(code_points_.end(), parts.begin(), parts.begin() + size);
  }

  // Appends what was added, in its form, and forgets it.
  void finish(std::string& out) {
    order_marks();
    auto size = static_cast<utf8proc_ssize_t>(code_points_.size());
    if (composes(form_) && size > 0) {
      size = utf8proc_normalize_utf32(
          code_points_.data(), size,
          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    }
    for (utf8proc_ssize_t i = 0; i < size; ++i) {
      append_utf8(static_cast<std::uint32_t>(code_points_[static_cast<std::size_t>(i)]), out);
    }
    code_points_.clear();
  }

 private:
  static utf8proc_propval_t combining_class(utf8proc_int32_t code_point) {
    return utf8proc_get_property(code_point)->combining_class;
  }

  // The canonical order: within each run of marks by their combining classes. The library orders by
  // exchanges of neighbours, for hours where a megabyte of marks is in disorder.
  void order_marks() {
    for (auto begin = code_points_.begin(); begin != code_points_.end();) {
      const auto end = std::find_if(begin, code_points_.end(), [](utf8proc_int32_t code_point) {
        return combining_class(code_point) == 0;
      });
      order(begin, end);
      begin = end == code_points_.end() ? end : end + 1;
    }
  }

  // Marks of one class stay in their order: keys are class, place and mark.
  void order(std::vector<utf8proc_int32_t>::iterator begin,
             std::vector<utf8proc_int32_t>::iterator end) {
    if (end - begin < 2) {
      return;
    }
    constexpr int kMarkBits = 21;
    constexpr int kPlaceBits = 32;
    keys_.clear();
    for (auto mark = begin; mark != end; ++mark) {
      keys_.push_back(static_cast<std::uint64_t>(combining_class(*mark))
                          << (kPlaceBits + kMarkBits) |
                      static_cast<std::uint64_t>(mark - begin) << kMarkBits |
                      static_cast<std::uint64_t>(*mark));
    }
    std::sort(keys_.begin(), keys_.end());
    std::transform(keys_.begin(), keys_.end(), begin, [](std::uint64_t key) {
      return static_cast<utf8proc_int32_t>(key & ((1U << kMarkBits) - 1));
    });
  }

  NormalizationForm form_;
  std::vector<utf8proc_int32_t> code_points_;
  std::vector<std::uint64_t> keys_;
};

// Adds the one code point of `text`, or appends it to `out` if it is none.
void add_last(std::string_view text, Composer& composer, std::string& out) {
  const Utf8CodePoint only = code_point_at(text, 0);
  if (only.value == kInvalidCodePoint) {
    out += text;
  } else {
    composer.add(only.value);
  }
}

std::string normalized(std::string_view text, NormalizationForm form) {
  std::string out;
  out.reserve(text.size());
  Composer composer(form);
  std::size_t begin = 0;  // of the inert code points that are not in `out` yet
  std::size_t last = 0;   // of them; it may compose with what follows
  bool was_inert = true;
  for (std::size_t position = 0; position < text.size();) {
    const Utf8CodePoint next = code_point_at(text, position);
    if (next.value == kInvalidCodePoint || is_inert(form, next.value)) {
      if (!was_inert) {
        composer.finish(out);
        begin = position;
      }
      was_inert = true;
      last = position;
    } else {
      if (was_inert) {
        out += text.substr(begin, last - begin);
        add_last(text.substr(last, position - last), composer, out);
      }
      was_inert = false;
      composer.add(next.value);
    }
    position += next.num_bytes;
  }
  if (was_inert) {
    out += text.substr(begin);
  }
  composer.finish(out);
  return out;
}

}  // namespace

std::string Normalizer::normalize(std::string_view text) const {
  std::string current(text);
  for (const NormalizationForm form : forms_) {
    current = normalized(current, form);
  }
  return current;
}

}  // namespace fathom::data
