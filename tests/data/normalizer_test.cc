#include "data/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <random>
#include <string>

#include "data/utf8.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

std::string normalized(NormalizationForm form, const std::string& text) {
  return Normalizer({form}).normalize(text);
}

TEST_CASE("Normalization forms of texts worked by hand") {
  using enum NormalizationForm;
  CHECK(normalized(kNfc, "e\u0301 A\u030a \u212b \u2126") == "\u00e9 \u00c5 \u00c5 \u03a9");
  CHECK(normalized(kNfd, "\u00e9\uac01") == "e\u0301\u1100\u1161\u11a8");
  CHECK(normalized(kNfc, "\u1100\u1161\u11a8 \uac00\u11a8") == "\uac01 \uac01");
  CHECK(normalized(kNfkc, "\ufb01\u2460\uff21 \u00bd") == "fi1A 1\u20442");
  CHECK(normalized(kNfkd, "\ufb01\u00e9") == "fie\u0301");
  // Marks in canonical order: below (220) before above (230); a composition over one that is
  // blocked.
  CHECK(normalized(kNfc, "q\u0307\u0323") == "q\u0323\u0307");
  CHECK(normalized(kNfc, "x a\u0323\u0302") == "x \u1ead");
  CHECK(normalized(kNfc, "\u304b\u3099") == "\u304c");
  CHECK(normalized(kNfc, "\u0958") == "\u0915\u093c");  // excluded from composition
  CHECK(Normalizer({kNfd, kNfkc}).normalize("\u00e9\ufb01") == "\u00e9fi");
  CHECK(Normalizer({}).empty());
}

TEST_CASE("Bytes that are no UTF-8 stay, and nothing composes across them") {
  using enum NormalizationForm;
  CHECK(normalized(kNfc, "e\xff\u0301\xc3 e\u0301\xe2\x82") == "e\xff\u0301\xc3 \u00e9\xe2\x82");
  CHECK(normalized(kNfd, "\xff\u00e9") ==
        "\xff"
        "e\u0301");
}

std::string by_library(NormalizationForm form, const std::string& text) {
  using enum NormalizationForm;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.c_str());
  utf8proc_uint8_t* made = form == kNfc    ? utf8proc_NFC(bytes)
                           : form == kNfd  ? utf8proc_NFD(bytes)
                           : form == kNfkc ? utf8proc_NFKC(bytes)
                                           : utf8proc_NFKD(bytes);
  REQUIRE(made != nullptr);
  const std::string copy = reinterpret_cast<const char*>(made);
  std::free(made);  // NOLINT(cppcoreguidelines-no-malloc): the library's way
  return copy;
}

TEST_CASE("Every character beside others, as the whole of the library makes it") {
  using enum NormalizationForm;
  const auto form = GENERATE(kNfc, kNfd, kNfkc, kNfkd);
  const std::uint32_t stride = form == kNfc ? 1 : 5;
  int num_different = 0;
  for (std::uint32_t code_point = 1; code_point < 0x30000; code_point += stride) {
    if (code_point >= 0xd800 && code_point < 0xe000) {
      continue;
    }
    std::string text = "e";
    append_utf8(code_point, text);
    text += "\u0301\u0323\u304b\u3099";
    append_utf8(code_point, text);
    text += "\u11a8.";
    num_different += normalized(form, text) == by_library(form, text) ? 0 : 1;
  }
  CHECK(num_different == 0);
}

TEST_CASE("Texts by chance, as the whole of the library makes them") {
  using enum NormalizationForm;
  std::mt19937 random(3);
  const std::vector<std::string> parts = {"a",      "e",      " ",      "\u0301", "\u0323",
                                          "\u0307", "\u0345", "\u00e9", "\u1100", "\u1161",
                                          "\u11a8", "\uac00", "\u304b", "\u3099", "\u6f22",
                                          "\u0915", "\u093c", "\u212b", "\ufb01", "\u0416"};
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (std::size_t count = random() % 12; count > 0; --count) {
      text += parts[random() % parts.size()];
    }
    INFO(text);
    for (const NormalizationForm form : {kNfc, kNfd, kNfkc, kNfkd}) {
      REQUIRE(normalized(form, text) == by_library(form, text));
    }
  }
}

}  // namespace
}  // namespace fathom::data
