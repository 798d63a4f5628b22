#include "data/line_reader.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace fathom::data {

LineReader::LineReader(const std::filesystem::path& file, std::int64_t begin,
                       std::int64_t max_line_bytes)
    : file_(file),
      stream_(file, std::ios::binary),
      max_line_bytes_(max_line_bytes),
      position_(begin),
      line_begin_(begin),
      block_(std::size_t{1} << 20) {
  if (!stream_ || !stream_.seekg(begin)) {
    const int error = errno;
    throw IoError(concat("cannot open ", file.string(), ": ", std::strerror(error)), error);
  }
}

bool LineReader::fill() {
  if (block_begin_ < block_end_) {
    return true;
  }
  stream_.read(block_.data(), static_cast<std::streamsize>(block_.size()));
  if (stream_.bad()) {
    const int error = errno;
    throw IoError(
        concat("cannot read ", file_.string(), " at byte ", position_, ": ", std::strerror(error)),
        error);
  }
  block_begin_ = 0;
  block_end_ = static_cast<std::size_t>(stream_.gcount());
  return block_end_ > 0;
}

bool LineReader::next(std::string& line) {
  line.clear();
  line_begin_ = position_;
  const auto limit = static_cast<std::size_t>(max_line_bytes_);
  while (line.size() < limit && fill()) {
    const char* begin = block_.data() + block_begin_;
    const std::size_t available = std::min(block_end_ - block_begin_, limit - line.size());
    const void* newline = std::memchr(begin, '\n', available);
    const std::size_t size =
        newline == nullptr
            ? available
            : static_cast<std::size_t>(static_cast<const char*>(newline) - begin) + 1;
    line.append(begin, size);
    block_begin_ += size;
    position_ += static_cast<std::int64_t>(size);
    if (newline != nullptr) {
      break;
    }
  }
  if (line.size() == limit && line.back() != '\n') {
    give_back_incomplete_character(line);
  }
  return !line.empty();
}

void LineReader::give_back_incomplete_character(std::string& part) {
  for (std::size_t count = 1; count <= 3 && count < part.size(); ++count) {
    const auto byte = static_cast<std::uint8_t>(part[part.size() - count]);
    if ((byte & 0xc0) == 0x80) {
      continue;
    }
    const std::size_t character_size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (character_size > count && block_begin_ >= count) {
      part.erase(part.size() - count);
      block_begin_ -= count;
      position_ -= static_cast<std::int64_t>(count);
    }
    return;
  }
}

std::string bytes_before(const std::filesystem::path& file, std::int64_t end, std::int64_t count) {
  const std::int64_t begin = std::max<std::int64_t>(0, end - count);
  std::string bytes(static_cast<std::size_t>(end - begin), '\0');
  std::ifstream stream(file, std::ios::binary);
  if (!stream.seekg(begin) || !stream.read(bytes.data(), end - begin)) {
    throw IoError(concat("cannot read ", file.string(), " at byte ", begin));
  }
  return bytes;
}

std::int64_t line_number_at(const std::filesystem::path& file, std::int64_t position) {
  std::vector<char> block(std::size_t{1} << 16);
  std::ifstream stream(file, std::ios::binary);
  std::int64_t line_number = 1;
  for (std::int64_t done = 0; done < position && stream;) {
    const std::int64_t wanted = std::min(position - done, static_cast<std::int64_t>(block.size()));
    stream.read(block.data(), wanted);
    line_number += std::count(block.data(), block.data() + stream.gcount(), '\n');
    done += wanted;
  }
  return line_number;
}

}  // namespace fathom::data
