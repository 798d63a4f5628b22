#pragma once

#include <compare>
#include <ostream>
#include <string_view>

namespace fathom {

// kMeta computes nothing and holds no data: its allocator counts bytes and its kernels return at
// once. Running the real program on it tells shapes, parameter counts, peak memory and traffic of a
// run before the run (--dry_run).
enum class DeviceType { kCpu, kCuda, kMeta };

constexpr std::string_view to_string(DeviceType type) noexcept {
  switch (type) {
    case DeviceType::kCpu:
      return "cpu";
    case DeviceType::kCuda:
      return "cuda";
    case DeviceType::kMeta:
      return "meta";
  }
  return "unknown";
}

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  auto operator<=>(const Device&) const = default;
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) {
  return out << to_string(device.type) << ':' << device.index;
}

}  // namespace fathom
