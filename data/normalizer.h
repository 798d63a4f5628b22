#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom::data {

// Unicode's normalization forms (UAX #15).
enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// Brings texts to normalization forms, one after another. Bytes that begin no well-formed UTF-8
// sequence stay as they are, and nothing is composed across them. O(n log n) whatever the text.
// Immutable: may be shared by threads.
class Normalizer {
 public:
  explicit Normalizer(std::vector<NormalizationForm> forms) : forms_(std::move(forms)) {}

  // Whether normalize() leaves every text as it is.
  bool empty() const noexcept { return forms_.empty(); }
  std::string normalize(std::string_view text) const;

 private:
  std::vector<NormalizationForm> forms_;
};

}  // namespace fathom::data
