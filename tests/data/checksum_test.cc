#include "data/checksum.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <string>

#include "core/hexadecimal.h"
#include "tests/support/catch.h"

namespace fathom::data {

TEST_CASE("A checksum of pieces is the checksum of the whole") {
  std::string text(1000, '\0');
  std::iota(text.begin(), text.end(), '\0');
  const auto bytes = std::as_bytes(std::span(text));
  Checksum64 pieces;
  for (std::size_t begin = 0; begin < bytes.size(); begin += 300) {
    pieces.add(bytes.subspan(begin, std::min<std::size_t>(300, bytes.size() - begin)));
  }
  CHECK(pieces.value() == checksum(text));
  CHECK(Checksum64(1).value() != Checksum64().value());
}

// printf '' | xxhsum -H3; printf '' | xxh128sum
TEST_CASE("Checksums are those of the xxHash tools") {
  CHECK(hexadecimal(checksum(std::string_view())) == "2d06800538d394c2");
  CHECK(hexadecimal(Checksum128().value().high) == "99aa06d3014798d8");
  CHECK(hexadecimal(Checksum128().value().low) == "6001c324468d497f");
}

}  // namespace fathom::data
