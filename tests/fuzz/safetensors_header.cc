// A safetensors file: the length of its header, the header, and data of any content.
#include "tests/fuzz/fuzz_target.h"
#include "trainer/hf/safetensors.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view file = test::as_text(bytes, size);
  const auto file_bytes = static_cast<std::int64_t>(size);
  const auto read = [&](std::string_view text) {
    const std::int64_t header = trainer::safetensors_header_bytes(
        std::as_bytes(std::span(text)).first(std::min<std::size_t>(8, text.size())),
        std::ssize(text), "file");
    return trainer::parse_safetensors_header(text.substr(8, static_cast<std::size_t>(header)),
                                             std::ssize(text) - 8 - header, "file");
  };
  const auto entries = test::unless_refused([&] { return read(file); });
  if (!entries) {
    return 0;
  }
  std::int64_t end = 0;
  for (const trainer::SafetensorsEntry& entry : *entries) {
    test::must(entry.begin == end && entry.end >= end && entry.end <= file_bytes,
               "tensors overlap, leave a hole or lie outside");
    end = entry.end;
  }
  // What is accepted is accepted again as it would be written. Names that JSON escapes may take
  // more bytes there, so the data is made up.
  const std::string header = trainer::write_safetensors_header(*entries);
  test::must(read(header + std::string(static_cast<std::size_t>(end), '\0')) == *entries,
             "a header is another after writing and reading");
  return 0;
}
