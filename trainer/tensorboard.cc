#include "trainer/tensorboard.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <system_error>
#include <utility>

#include "configs/schema/tensorboard_event.pb.h"
#include "core/error.h"
#include "core/file.h"

namespace fathom::trainer {
namespace {

constexpr std::uint32_t kReversedCastagnoli = 0x82F63B78U;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1U) != 0 ? kReversedCastagnoli : 0U);
    }
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

template <class Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    bytes.push_back(static_cast<char>(value >> (8 * i) & 0xffU));
  }
  return bytes;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Creates the folder. TensorBoard takes files whose name holds "tfevents" and reads them in the
// order of their names.
std::filesystem::path new_file_path(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw_io_error("create folder", folder, error.value());
  }
  const auto seconds = static_cast<std::int64_t>(seconds_since_1970());
  for (int number = 0;; ++number) {
    std::string digits = std::to_string(number);
    digits.insert(0, digits.size() < 4 ? 4 - digits.size() : 0, '0');
    const std::filesystem::path path =
        folder / concat("events.out.tfevents.", seconds, ".fathom.", digits, ".", ::getpid());
    if (!std::filesystem::exists(path)) {
      return path;
    }
  }
}

tensorboard::Event event_at(std::int64_t step) {
  tensorboard::Event event;
  event.set_wall_time(seconds_since_1970());
  event.set_step(step);
  return event;
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view bytes) noexcept {
  std::uint32_t crc = 0xffffffffU;
  for (const char byte : bytes) {
    crc = kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xffU] ^ (crc >> 8);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

EventWriter::EventWriter(const std::filesystem::path& folder, std::int64_t first_step)
    : file_(new_file_path(folder), AppendFile::Start::kEmpty) {
  tensorboard::Event version = event_at(0);
  version.set_file_version("brain.Event:2");
  write_record(version.SerializeAsString());
  tensorboard::Event start = event_at(first_step);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  write_record(start.SerializeAsString());
  flush();
}

void EventWriter::scalar(std::string_view tag, std::int64_t step, double value) {
  const Scalar one{std::string(tag), static_cast<float>(value)};
  scalars(step, {&one, 1});
}

void EventWriter::scalars(std::int64_t step, std::span<const Scalar> values) {
  tensorboard::Event event = event_at(step);
  for (const Scalar& scalar : values) {
    tensorboard::Summary::Value* value = event.mutable_summary()->add_value();
    value->set_tag(scalar.tag);
    value->set_simple_value(scalar.value);
  }
  write_record(event.SerializeAsString());
}

void EventWriter::flush() { file_.append(std::exchange(unwritten_, "")); }

void EventWriter::write_record(const std::string& message) {
  const std::string length = little_endian(static_cast<std::uint64_t>(message.size()));
  unwritten_ += length + little_endian(masked_crc32c(length)) + message +
                little_endian(masked_crc32c(message));
}

}  // namespace fathom::trainer
