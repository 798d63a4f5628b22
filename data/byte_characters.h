#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom::data {

// The printable characters by which byte-level tokenizers write bytes in their files (GPT-2,
// Radford et al. 2019): the printable ones of Latin-1 stand for themselves, the other 68 bytes for
// U+0100 and on.
class ByteCharacters {
 public:
  ByteCharacters();

  // UTF-8 of the characters that stand for `bytes`.
  std::string text_of(std::string_view bytes) const;
  // The bytes that the characters of `text` stand for; nothing if one of them stands for none.
  std::optional<std::string> bytes_of(std::string_view text) const;
  // All bytes in the order of their characters: the order of the byte tokens in a trained
  // vocabulary.
  std::array<std::uint8_t, 256> bytes_in_order() const;

 private:
  static constexpr std::uint32_t kNumCharacters = 324;

  std::array<std::uint32_t, 256> character_of_byte_{};
  std::array<std::int16_t, kNumCharacters> byte_of_character_{};  // -1: stands for none
};

}  // namespace fathom::data
