#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/append_file.h"

namespace fathom::trainer {

// One number of a curve.
struct Scalar {
  std::string tag;  // "train/loss": TensorBoard groups by what is before the slash
  float value = 0;
};

// Writes one event file of TensorBoard into a folder that may hold files of earlier runs. Events
// are records of TFRecord files: length, its checksum, a protobuf message, its checksum. All
// functions throw IoError naming the file.
class EventWriter {
 public:
  // Creates the folder and a new file in it. Curves of earlier files are cut off from `first_step`
  // on, so that a resumed run does not show the steps that it takes a second time twice.
  explicit EventWriter(const std::filesystem::path& folder, std::int64_t first_step = 0);

  void scalar(std::string_view tag, std::int64_t step, double value);
  void scalars(std::int64_t step, std::span<const Scalar> values);  // in one record
  // Hands what was written since to the system; on an error that is lost as a whole.
  void flush();

  const std::filesystem::path& path() const noexcept { return file_.path(); }

 private:
  void write_record(const std::string& message);

  AppendFile file_;
  std::string unwritten_;  // records
};

// The checksum of a TFRecord: CRC-32C (Castagnoli, RFC 3720 appendix B.4), rotated and shifted so
// that a checksum of data that holds checksums stays a good one.
std::uint32_t masked_crc32c(std::string_view bytes) noexcept;

}  // namespace fathom::trainer
