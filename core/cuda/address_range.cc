#include "core/cuda/address_range.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/driver_function.h"
#include "core/error.h"
#include "core/round_up.h"

namespace fathom {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{64} << 20;  // a multiple of every granularity
constexpr std::int64_t kAlignment = 256;  // for 16-byte loads, cuBLASLt and tensor maps

struct Driver {
  decltype(&cuMemAddressReserve) reserve =
      driver_function<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) free_addresses =
      driver_function<decltype(&cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = driver_function<decltype(&cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) release = driver_function<decltype(&cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = driver_function<decltype(&cuMemMap)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = driver_function<decltype(&cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access =
      driver_function<decltype(&cuMemSetAccess)>("cuMemSetAccess");
};

// Mapping memory does no work of a stream, and may go on while the thread records some.
class RelaxedCapture {
 public:
  RelaxedCapture() {
    check_cuda(cudaThreadExchangeStreamCaptureMode(&mode_), "cudaThreadExchangeStreamCaptureMode");
  }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

class CudaAddressRange final : public AddressRange {
 public:
  explicit CudaAddressRange(int device) : device_(device) {
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    bytes_ = round_up(static_cast<std::int64_t>(total_bytes), kPieceBytes);
    const CUresult status = driver_.reserve(&base_, static_cast<std::size_t>(bytes_), 0, 0, 0);
    if (status != CUDA_SUCCESS) {
      throw DeviceError(concat("cuMemAddressReserve of ", bytes_, " bytes on cuda:", device,
                               ": error ", static_cast<int>(status)));
    }
  }
  ~CudaAddressRange() override {
    if (std::uncaught_exceptions() > 0) {
      return;  // as the queue: the device may be waiting for ranks that do not come
    }
    cudaSetDevice(device_);
    cudaDeviceSynchronize();
    if (committed_ > 0) {
      driver_.unmap(base_, static_cast<std::size_t>(committed_));
    }
    for (const CUmemGenericAllocationHandle piece : pieces_) {
      driver_.release(piece);
    }
    driver_.free_addresses(base_, static_cast<std::size_t>(bytes_));
  }
  CudaAddressRange(const CudaAddressRange&) = delete;
  CudaAddressRange& operator=(const CudaAddressRange&) = delete;

  std::byte* base() const noexcept override {
    return reinterpret_cast<std::byte*>(base_);  // NOLINT(performance-no-int-to-ptr): the driver's
  }
  std::int64_t bytes() const noexcept override { return bytes_; }
  std::int64_t alignment() const noexcept override { return kAlignment; }
  bool is_host_memory() const noexcept override { return false; }
  std::int64_t committed_bytes() const noexcept override { return committed_; }

  void commit(std::int64_t bytes) override {
    const std::int64_t wanted = round_up(bytes, kPieceBytes);
    if (wanted > committed_) {
      check_cuda(cudaSetDevice(device_), "cudaSetDevice");
      const RelaxedCapture relaxed;
      add_piece(wanted - committed_);
    }
  }

 private:
  void add_piece(std::int64_t bytes) {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = device_;
    CUmemGenericAllocationHandle piece{};
    const auto size = static_cast<std::size_t>(bytes);
    const CUdeviceptr address = base_ + static_cast<CUdeviceptr>(committed_);
    const CUresult created = driver_.create(&piece, size, &properties, 0);
    if (created != CUDA_SUCCESS) {
      throw DeviceError(concat(created == CUDA_ERROR_OUT_OF_MEMORY
                                   ? std::string("out of memory")
                                   : concat("cuMemCreate: error ", static_cast<int>(created)),
                               " on cuda:", device_, ": ", bytes, " more bytes asked for, ",
                               committed_, " of ", bytes_, " taken by this process"));
    }
    pieces_.push_back(piece);
    CUmemAccessDesc access{};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (driver_.map(address, size, 0, piece, 0) != CUDA_SUCCESS ||
        driver_.set_access(address, size, &access, 1) != CUDA_SUCCESS) {
      throw DeviceError(concat("mapping ", bytes, " bytes on cuda:", device_, " failed"));
    }
    committed_ += bytes;
  }

  Driver driver_;
  int device_;
  CUdeviceptr base_ = 0;
  std::int64_t bytes_ = 0;
  std::int64_t committed_ = 0;
  std::vector<CUmemGenericAllocationHandle> pieces_;
};

}  // namespace

std::unique_ptr<AddressRange> make_cuda_address_range(int device) {
  return std::make_unique<CudaAddressRange>(device);
}

}  // namespace fathom
