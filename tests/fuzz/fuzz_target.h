#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"

// What one target offers to libFuzzer (build preset "fuzz") and to replay.cc (all other builds):
// reads `bytes` as a file from outside. Anything but a good end or an error for the user is a
// crash. NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace fathom::test {

inline std::string_view as_text(const std::uint8_t* bytes, std::size_t size) {
  return size == 0 ? std::string_view()
                   : std::string_view(reinterpret_cast<const char*>(bytes), size);
}

// What `read` returns, or nothing where it refuses its input with one of the errors that blame the
// input. Every other exception passes and ends the program.
template <class Read>
auto unless_refused(Read&& read) -> std::optional<decltype(read())> {
  try {
    return std::forward<Read>(read)();
  } catch (const ConfigError&) {
    return std::nullopt;
  } catch (const IoError&) {
    return std::nullopt;
  }
}

// An assertion that release builds keep.
inline void must(bool condition, const char* what) {
  if (!condition) {
    throw InternalError(what);
  }
}

}  // namespace fathom::test
