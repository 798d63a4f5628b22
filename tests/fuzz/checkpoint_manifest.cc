// A checkpoint's manifest: sealed as it lies on the disk, and its content without the seal, so that
// what the checks behind the checksum see is fuzzed as well.
#include "tests/fuzz/fuzz_target.h"
#include "trainer/checkpoint/manifest.h"

using namespace fathom;

namespace {

std::optional<trainer::Manifest> parse(std::string_view bytes, bool is_sealed) {
  return test::unless_refused([&]() -> trainer::Manifest {
    try {
      return is_sealed ? trainer::parse_manifest(bytes) : trainer::parse_part(bytes);
    } catch (const trainer::Damage& damage) {
      throw ConfigError(damage.what());
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view input = test::as_text(bytes, size);
  for (const bool is_sealed : {true, false}) {
    const auto found = parse(input, is_sealed);
    if (!found) {
      continue;
    }
    const std::string written = trainer::serialize_manifest(*found);
    const auto again = parse(written, true);
    test::must(again.has_value() || !is_sealed, "an accepted manifest is refused when written");
    if (again) {
      test::must(trainer::serialize_manifest(*again) == written, "a manifest changes when read");
      trainer::regions_of(*again);
    }
  }
  return 0;
}
