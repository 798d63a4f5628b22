// A model.safetensors.index.json.
#include "trainer/hf/safetensors_index.h"

#include "tests/fuzz/fuzz_target.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto files = test::unless_refused(
      [&] { return trainer::parse_safetensors_index(test::as_text(bytes, size), "index"); });
  if (!files) {
    return 0;
  }
  for (const auto& [tensor, file] : *files) {
    test::must(file.find('/') == std::string::npos && file.ends_with(".safetensors"),
               "a file of another folder");
  }
  test::must(trainer::parse_safetensors_index(trainer::write_safetensors_index(*files, 0),
                                              "index") == *files,
             "an index is another after writing and reading");
  return 0;
}
