#include "trainer/tensorboard.h"

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "configs/schema/tensorboard_event.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "trainer/metrics.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

// CRC-32C bit by bit from its definition, without a table.
std::uint32_t reference_crc32c(const std::string& bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool is_odd = ((crc ^ (static_cast<unsigned char>(byte) >> bit)) & 1U) != 0;
      crc = (crc >> 1) ^ (is_odd ? 0x82F63B78U : 0);
    }
  }
  return ~crc;
}

std::uint32_t reference_mask(std::uint32_t crc) {
  return static_cast<std::uint32_t>((std::uint64_t{crc >> 15 | crc << 17} + 0xa282ead8) &
                                    0xffffffff);
}

template <class Integer>
Integer integer_at(const std::string& bytes, std::size_t offset) {
  Integer value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The events of a file, or nothing if the framing, a checksum or a message is wrong.
std::optional<std::vector<tensorboard::Event>> read_events(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<tensorboard::Event> events;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto length = integer_at<std::uint64_t>(bytes, at);
    const std::string message = bytes.substr(at + 12, length);
    tensorboard::Event event;
    if (integer_at<std::uint32_t>(bytes, at + 8) !=
            reference_mask(reference_crc32c(bytes.substr(at, 8))) ||
        integer_at<std::uint32_t>(bytes, at + 12 + length) !=
            reference_mask(reference_crc32c(message)) ||
        !event.ParseFromString(message)) {
      return std::nullopt;
    }
    events.push_back(event);
    at += 16 + length;
  }
  return events;
}

std::size_t num_files(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

}  // namespace

TEST_CASE("the checksum is the CRC-32C of RFC 3720, masked") {
  // RFC 3720, B.4: 32 bytes of zeros, of ones, and 0, 1, 2 ... 31.
  std::string counting;
  for (char i = 0; i < 32; ++i) {
    counting.push_back(i);
  }
  CHECK(masked_crc32c(std::string(32, '\0')) == reference_mask(0x8A9136AA));
  CHECK(masked_crc32c(std::string(32, '\xff')) == reference_mask(0x62A8AB43));
  CHECK(masked_crc32c(counting) == reference_mask(0x46DD794E));
  CHECK(masked_crc32c("123456789") == reference_mask(0xE3069283));
}

TEST_CASE("an event file reads back record by record") {
  const test::TemporaryFolder folder;
  EventWriter writer(folder.path() / "new" / "tensorboard");
  writer.scalar("train/loss", 1, 3.5);
  const std::vector<Scalar> two{{"train/grad_norm", 0.0F}, {"eval/loss", -2.0F}};
  writer.scalars(2, two);
  writer.flush();
  CHECK(writer.path().filename().string().find("events.out.tfevents.") == 0);

  const auto events = read_events(writer.path());
  REQUIRE(events.has_value());
  REQUIRE(events->size() == 4);
  CHECK((*events)[0].file_version() == "brain.Event:2");
  CHECK((*events)[0].wall_time() > 1.7e9);
  CHECK((*events)[1].session_log().status() == tensorboard::SessionLog::START);
  CHECK((*events)[2].step() == 1);
  CHECK((*events)[2].summary().value(0).tag() == "train/loss");
  CHECK((*events)[2].summary().value(0).simple_value() == 3.5F);
  CHECK((*events)[3].summary().value_size() == 2);
  CHECK((*events)[3].summary().value(0).has_simple_value());  // zero is written, not left out
  CHECK((*events)[3].summary().value(1).simple_value() == -2.0F);
}

TEST_CASE("numbers of a line become curves, of a list one each") {
  const test::TemporaryFolder folder;
  MetricsWriter writer(folder.path(), std::nullopt);
  writer.write({{"step", 3},
                {"loss", 2.5},
                {"loss_hex", "0x1.4p+1"},
                {"mtp_loss", std::vector<double>{4.0, 5.0}}});
  writer.write({{"step", 3}, {"event", "eval"}, {"eval_tokens", 64}});

  const std::filesystem::directory_iterator file(folder.path() / "tensorboard");
  const auto events = read_events(file->path());
  REQUIRE(events.has_value());
  std::vector<std::pair<std::string, float>> curves;
  for (const tensorboard::Event& event : *events) {
    for (const tensorboard::Summary::Value& value : event.summary().value()) {
      CHECK(event.step() == 3);
      curves.emplace_back(value.tag(), value.simple_value());
    }
  }
  CHECK(curves == std::vector<std::pair<std::string, float>>{{"train/loss", 2.5F},
                                                             {"train/mtp_loss_0", 4.0F},
                                                             {"train/mtp_loss_1", 5.0F},
                                                             {"eval/eval_tokens", 64.0F}});
}

TEST_CASE("a resumed run adds a file, which cuts the earlier ones at its first step") {
  const test::TemporaryFolder folder;
  EventWriter first(folder.path());
  EventWriter second(folder.path(), 11);
  CHECK(num_files(folder.path()) == 2);
  CHECK(first.path() < second.path());
  const auto events = read_events(second.path());
  REQUIRE(events.has_value());
  CHECK((*events)[1].step() == 11);
  CHECK((*events)[1].session_log().status() == tensorboard::SessionLog::START);
}

TEST_CASE("an event file that cannot be made is an IoError") {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "file", "");
  CHECK_THROWS_AS(EventWriter(folder.path() / "file"), IoError);
}
