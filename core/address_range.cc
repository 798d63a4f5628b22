#include "core/address_range.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "core/error.h"
#include "core/round_up.h"

namespace fathom {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kMinimumRange = std::int64_t{64} << 30;
constexpr std::int64_t kSmallestRange = std::int64_t{256} << 20;

class HostAddressRange final : public AddressRange {
 public:
  HostAddressRange() {
    const std::int64_t physical =
        static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    bytes_ = std::max(kMinimumRange, round_up(physical, kAlignment));
    // A limit on address space (ulimit -v) or strict overcommit may refuse that much: take what
    // there is.
    void* base = map();
    while (base == MAP_FAILED && bytes_ / 2 >= kSmallestRange) {
      bytes_ = round_up(bytes_ / 2, kAlignment);
      base = map();
    }
    if (base == MAP_FAILED) {
      throw DeviceError(concat("the system refused ", bytes_, " bytes of address space"));
    }
    base_ = static_cast<std::byte*>(base);
    madvise(base, static_cast<std::size_t>(bytes_), MADV_HUGEPAGE);  // only a hint: may fail
  }
  ~HostAddressRange() override { munmap(base_, static_cast<std::size_t>(bytes_)); }
  HostAddressRange(const HostAddressRange&) = delete;
  HostAddressRange& operator=(const HostAddressRange&) = delete;

  std::byte* base() const noexcept override { return base_; }
  std::int64_t bytes() const noexcept override { return bytes_; }
  std::int64_t alignment() const noexcept override { return kAlignment; }
  bool is_host_memory() const noexcept override { return true; }
  void commit(std::int64_t bytes) override { committed_ = std::max(committed_, bytes); }
  std::int64_t committed_bytes() const noexcept override { return committed_; }

 private:
  void* map() const noexcept {
    return mmap(nullptr, static_cast<std::size_t>(bytes_), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  std::byte* base_ = nullptr;
  std::int64_t bytes_ = 0;
  std::int64_t committed_ = 0;
};

}  // namespace

std::unique_ptr<AddressRange> make_host_address_range() {
  return std::make_unique<HostAddressRange>();
}

}  // namespace fathom
