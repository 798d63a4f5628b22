#include "data/byte_characters.h"

#include "data/utf8.h"

namespace fathom::data {

ByteCharacters::ByteCharacters() {
  byte_of_character_.fill(-1);
  std::uint32_t next_free = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool is_printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const std::uint32_t character = is_printable ? byte : next_free++;
    character_of_byte_[byte] = character;
    byte_of_character_[character] = static_cast<std::int16_t>(byte);
  }
}

std::string ByteCharacters::text_of(std::string_view bytes) const {
  std::string text;
  for (const char byte : bytes) {
    append_utf8(character_of_byte_[static_cast<std::uint8_t>(byte)], text);
  }
  return text;
}

std::optional<std::string> ByteCharacters::bytes_of(std::string_view text) const {
  std::string bytes;
  for (std::size_t position = 0; position < text.size();) {
    const Utf8CodePoint character = code_point_at(text, position);
    if (character.value >= kNumCharacters || byte_of_character_[character.value] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(byte_of_character_[character.value]));
    position += character.num_bytes;
  }
  return bytes;
}

std::array<std::uint8_t, 256> ByteCharacters::bytes_in_order() const {
  std::array<std::uint8_t, 256> bytes{};
  std::size_t count = 0;
  for (const std::int16_t byte : byte_of_character_) {
    if (byte >= 0) {
      bytes[count++] = static_cast<std::uint8_t>(byte);
    }
  }
  return bytes;
}

}  // namespace fathom::data
